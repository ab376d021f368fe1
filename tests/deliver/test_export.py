"""Exports, each read back by another reader and replayed: same decisions, or a refusal that says why."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import dotenv
import pytest
import yaml
from deliver.policies import CHEAP, STRONG, body, document, facts, one_token, write
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cascade_threshold.policy import Policy, PolicyEditedWarning
from cascade_threshold.signals import SIGNALS
from pipeline.config.vocabulary import FORMATS
from pipeline.deliver.formats.export import export
from pipeline.deliver.formats.semantic_router import router_threshold
from pipeline.deliver.formats.serialize import to_env, to_toml, to_yaml
from pipeline.errors import NotExportable, UsageError


def read_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def read_yaml_11(text: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(text)


def read_env(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines)}


def replies(seed: int = 3, n: int = 400) -> list[dict[str, Any]]:
    """Replies of one to three answer tokens, some without logprobs, some out of the set, some of another model."""
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    for _ in range(n):
        label = rng.choice([["spam"], ["work"], ["per", "sonal"], ["ot", "h", "er"]])
        logprobs = [-rng.expovariate(8) for _ in label]
        made.append(body("".join(label), list(zip(label, logprobs, strict=True))))
    made += [body(logprobs=False), body(""), one_token(0.9), one_token(0.95, model="other/model")]
    return made


def certified(signal: str = "mean", **more: Any) -> dict[str, Any]:
    return document(signal={"name": signal, "version": 2, "params": {}, "whole_output": True}, **more)


def null_restored(value: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """TOML leaves null out; whoever reads it back knows the fields."""
    out: dict[str, Any] = {}
    for key, model in like.items():
        if isinstance(model, dict):
            out[key] = null_restored(value.get(key, {}), model)
        else:
            out[key] = value.get(key) if model is None or key in value else pytest.fail(f"{key} got lost")
    return out


@pytest.mark.parametrize("verdict", ["certified", "uncertified"])
def test_json_yaml_and_toml_hold_the_whole_policy_exactly(verdict: str) -> None:
    made = document(
        verdict=verdict,
        threshold=None if verdict == "uncertified" else 0.9000000000000001,
        calibrator={"kind": "platt", "slope": 1e-06, "intercept": 123456.0},
    )
    text = {name: export(made, name, allow_uncertified=True) for name in ("json", "yaml", "toml")}
    assert json.loads(text["json"]) == made
    assert read_yaml(text["yaml"]) == made
    assert read_yaml_11(text["yaml"]) == made
    assert null_restored(tomllib.loads(text["toml"]), made) == made


@pytest.mark.parametrize("threshold", [0.9, 0.95, 0.5, 0.0])
def test_row_52_replaying_json_yaml_toml_env_and_litellm_gives_the_same_decisions(threshold: float) -> None:
    made = certified("minimum", threshold=threshold, verdict="certified" if threshold else "cheap_only")
    policy = Policy(made)
    expected = [policy.decide(reply).action for reply in replies()]
    assert {"accept", "escalate"} == set(expected)
    again = [
        Policy(json.loads(export(made, "json"))),
        Policy(read_yaml(export(made, "yaml"))),
        Policy(null_restored(tomllib.loads(export(made, "toml")), made)),
    ]
    for other in again:
        assert [other.decide(reply).action for reply in replies()] == expected
        assert other.edited == ()
    env = float(read_env(export(made, "env"))["CASCADE_EMAIL_TRIAGE_THRESHOLD"])
    shared = read_yaml(export(made, "litellm"))["model_list"][0]["model_info"]["metadata"]["cascade_threshold"]
    for bare in (env, shared):
        confidences = [policy.decide(reply).confidence for reply in replies()]
        assert ["escalate" if c is None or c < bare else "accept" for c in confidences] == expected


def test_the_env_file_names_threshold_models_and_verdict() -> None:
    values = read_env(export(document(), "env"))
    assert values["CASCADE_EMAIL_TRIAGE_THRESHOLD"] == "0.9"
    assert values["CASCADE_EMAIL_TRIAGE_CHEAP_MODEL"] == CHEAP
    assert values["CASCADE_EMAIL_TRIAGE_STRONG_MODEL"] == STRONG
    assert values["CASCADE_EMAIL_TRIAGE_VERDICT"] == "certified"


def test_an_env_file_without_a_threshold_escalates_in_every_reader() -> None:
    text = export(document(verdict="uncertified", threshold=None), "env", allow_uncertified=True)
    value = float(read_env(text)["CASCADE_EMAIL_TRIAGE_THRESHOLD"])
    assert 1.0 < value < math.inf


def test_litellm_lists_both_models_with_prices_per_token() -> None:
    made = read_yaml(export(document(), "litellm"))
    cheap, strong = made["model_list"]
    assert (cheap["model_name"], strong["model_name"]) == ("email_triage-cheap", "email_triage-strong")
    assert cheap["litellm_params"] == {
        "model": f"together_ai/{CHEAP}",
        "api_key": "os.environ/TOGETHER_API_KEY",
        "temperature": 0,
        "max_tokens": 8,
        "logprobs": True,
        "top_logprobs": 5,
        "extra_body": {"reasoning": {"enabled": False}},
        "input_cost_per_token": 0.17e-6,
        "output_cost_per_token": 0.25e-6,
    }
    assert "logprobs" not in strong["litellm_params"]
    assert cheap["model_info"]["metadata"]["cascade_threshold"] == 0.9


@pytest.mark.parametrize(
    ("base_url", "api_base", "key"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", "none"),
        ("https://models.example/v1", "https://models.example/v1", "os.environ/OPENAI_API_KEY"),
        ("https://gate.example/openai/v1", "https://gate.example/openai/v1", "os.environ/OPENAI_API_KEY"),
    ],
)
def test_litellm_asks_the_service_that_was_calibrated(base_url: str, api_base: str, key: str) -> None:
    made = document()
    served = {"provider": "openai-compatible", "base_url": base_url}
    text = export(
        document(provider="openai-compatible", cheap=made["cheap"] | served, strong=made["strong"] | served), "litellm"
    )
    for entry in read_yaml(text)["model_list"]:
        found = entry["litellm_params"]
        assert (found["api_base"], found["api_key"], found["model"].split("/")[0]) == (api_base, key, "openai")


def test_a_model_list_is_never_without_models() -> None:
    made = document(signal={"name": "given", "version": None, "params": {}}, cheap=None, strong=None)
    with pytest.raises(NotExportable, match="both models"):
        export(made, "litellm")


def test_the_proxys_alias_is_a_model_that_decide_knows() -> None:
    made = document()
    for entry in read_yaml(export(made, "litellm"))["model_list"][:1]:
        assert Policy(made).decide(one_token(0.95, model=entry["model_name"])).action == "accept"


def as_docker_reads(text: str) -> dict[str, str]:
    """docker run --env-file: the value is all behind the first equals sign, quotes included."""
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("signal", ["first_token", "learned"])
def test_the_env_file_means_the_same_to_dotenv_docker_and_a_shell(signal: str, tmp_path: Path) -> None:
    params = {"features": ["logit_margin"], "mean": [0.0], "scale": [1.0], "coef": [1.0], "intercept": 0.0}
    learned = {"name": "learned", "version": SIGNALS["learned"].version, "params": params}
    text = export(document(**({"signal": learned} if signal == "learned" else {})), "env")
    path = tmp_path / "policy.env"
    path.write_text(text)
    docker = as_docker_reads(text)
    assert dotenv.dotenv_values(path) == docker
    shell = subprocess.run(
        ["sh", "-c", f"set -a; . {path}; env"], capture_output=True, text=True, check=True, env={}
    ).stdout
    assert {k: v for k, v in as_docker_reads(shell).items() if k.startswith("CASCADE_")} == docker
    assert ("only the package" in text) == (signal == "learned")


@pytest.mark.parametrize("format", ["yaml", "litellm"])
def test_pyyaml_reads_the_same_values(format: str) -> None:
    text = export(document(), format)
    assert yaml.safe_load(text) == read_yaml(text)


def router(reply: dict[str, Any], threshold: float | None) -> str:
    """vLLM semantic-router's avg_logprob as its documentation describes it."""
    content = (reply["choices"][0]["logprobs"] or {}).get("content") or []
    if not content:
        return "escalate"
    mean = sum(t["logprob"] for t in content) / len(content)
    score = min(1.0, max(0.0, (mean + 3.0) / 3.0))
    return "accept" if score >= (-1.0 if threshold is None else threshold) else "escalate"


@pytest.mark.parametrize("threshold", [0.06, 0.3, 0.9, 0.97, 0.999999, 1.0, 0.0])
def test_replaying_the_semantic_router_export_gives_the_same_decisions(threshold: float) -> None:
    made = certified(threshold=threshold, verdict="certified" if threshold else "cheap_only")
    settings_ = read_yaml(export(made, "vllm-semantic-router"))["routing"]["decisions"][0]["algorithm"]["confidence"]
    assert settings_["confidence_method"] == "avg_logprob"
    policy = Policy(made)
    known = [r for r in replies() if r["model"] == CHEAP and r["choices"][0]["message"]["content"]]
    known += [body("spam", [("spam", 0.0)]), body("spam", [("spam", math.log(0.97))]), body("spam", [("spam", -4.0)])]
    assert [router(r, settings_.get("threshold")) for r in known] == [policy.decide(r).action for r in known]


@settings(max_examples=80)
@given(st.floats(0.0498, 1.0), st.floats(-3, 0))
def test_the_routers_threshold_is_one_plus_a_third_of_the_logarithm(t: float, mean: float) -> None:
    scaled = router_threshold(Policy(certified(threshold=t)))
    assert scaled == pytest.approx(1 + math.log(t) / 3, abs=1e-15)
    if abs(math.exp(mean) - t) > 1e-14:
        assert ((mean + 3.0) / 3.0 >= scaled) == (math.exp(mean) >= t)


def test_the_router_accepts_the_boundary_itself() -> None:
    for i in range(50, 1001, 7):
        t = i / 1000
        if math.log(t) > -3:
            scaled = router_threshold(Policy(certified(threshold=t)))
            mean = math.log(t)
            for at in (mean, math.nextafter(mean, 0), math.nextafter(mean, -9)):
                assert math.exp(at) < t or (at + 3.0) / 3.0 >= scaled


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signal": {"name": "label_probability", "version": 3, "params": {}}}, "mean logprob of the whole reply"),
        ({"signal": {"name": "mean", "version": 2, "params": {}, "whole_output": False}}, "outside the answer"),
        ({"signal": {"name": "mean", "version": 2, "params": {}}}, "not known"),
        (
            {"signal": {"name": "mean", "version": 2, "params": {}, "whole_output": True}, "threshold": 0.04},
            "scale ends",
        ),
        (
            {
                "signal": {"name": "mean", "version": 2, "params": {}, "whole_output": True},
                "strong": {"human": True, "usd_per_request": 0.4},
            },
            "to models only",
        ),
    ],
)
def test_the_semantic_router_is_refused_with_the_reason_where_it_would_decide_otherwise(
    changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotExportable, match=why):
        export(document(**changes), "vllm-semantic-router", allow_uncertified=True)


def test_people_are_no_model_that_a_gateway_could_send_requests_to() -> None:
    made = certified(strong={"human": True, "usd_per_request": 0.4})
    with pytest.raises(NotExportable, match="people are the strong side"):
        export(made, "litellm")
    assert "CASCADE" in export(made, "env").upper()


def test_the_signal_is_the_first_thing_named_when_the_router_cannot_take_it() -> None:
    made = document(
        monitor=facts([None, *(0.5 + i / 200 for i in range(99))]),
        signal={"name": "margin", "version": 2, "params": {}},
    )
    with pytest.raises(NotExportable, match="the signal margin"):
        export(made, "vllm-semantic-router")


def test_a_single_token_reply_carries_over_whatever_the_signal_is_called() -> None:
    side = {**document()["cheap"], "params": {"max_tokens": 1}}
    made = document(cheap=side, signal={"name": "first_token", "version": 2, "params": {}})
    assert "threshold:" in export(made, "vllm-semantic-router")


def test_replies_that_the_router_cannot_judge_need_the_flag() -> None:
    made = certified(monitor=facts([None, *(0.5 + i / 200 for i in range(99))]))
    with pytest.raises(NotExportable, match=r"1\.00% of the calibration replies were no whole answer"):
        export(made, "vllm-semantic-router")
    assert "NO PROMISE" in export(made, "vllm-semantic-router", allow_uncertified=True)


def test_without_a_threshold_the_router_asks_the_strong_model_only() -> None:
    made = read_yaml(export(document(verdict="strong_only", threshold=None), "vllm-semantic-router"))
    decision = made["routing"]["decisions"][0]
    assert decision["algorithm"] == {"type": "static"}
    assert decision["modelRefs"] == [{"model": STRONG}]


@pytest.mark.parametrize("name", FORMATS)
def test_a_policy_without_a_promise_needs_the_flag_and_says_so(name: str) -> None:
    for verdict, threshold in (("uncertified", None), ("optimized", 0.9)):
        made = certified(verdict=verdict, threshold=threshold)
        with pytest.raises(NotExportable, match=verdict) as caught:
            export(made, name)
        assert caught.value.exit_code == 5
        assert verdict in export(made, name, allow_uncertified=True)


@pytest.mark.parametrize("name", FORMATS)
def test_demonstration_models_need_the_flag_and_keep_their_name(name: str) -> None:
    cheap = {
        **document()["cheap"],
        "model": "embedded/tiny@0123456789ab",
        "stands_in_for": CHEAP,
        "response_models_seen": ["embedded/tiny@0123456789ab"],
    }
    made = certified(provider="embedded", cheap=cheap)
    with pytest.raises(NotExportable, match="for demonstration") as caught:
        export(made, name, allow_uncertified=True)
    assert caught.value.exit_code == 5
    text = export(made, name, allow_demo=True)
    assert "embedded/tiny@0123456789ab" in text
    assert f"together_ai/{CHEAP}" not in text


def test_a_policy_edited_where_the_promise_rests_is_not_certified(tmp_path: Path) -> None:
    path = write(tmp_path / "policy.json", {**document(), "threshold": 0.5})
    with pytest.warns(PolicyEditedWarning), pytest.raises(NotExportable, match="edited after it was certified"):
        export(path, "json")
    harmless = {**document(), "note": "ours"}
    assert json.loads(export(harmless, "json")) == harmless


def test_an_unknown_format_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="litellm"):
        export(document(), "xml")


_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
        st.sampled_from(["yes", "no", "1e-06", "0x1f", "null", "~", "- a", "a: b", "#x"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=120)
@given(st.dictionaries(st.sampled_from(["a", "b", "yes", "on", "c d"]), _values, max_size=4))
def test_yaml_reads_back_the_same_in_both_versions_of_yaml(value: dict[str, Any]) -> None:
    text = to_yaml(value, "a comment\nof two lines")
    assert (read_yaml(text) or {}) == value
    assert (read_yaml_11(text) or {}) == value


@settings(max_examples=80)
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=4), _values, max_size=4))
def test_toml_reads_back_the_same_but_for_nulls(value: dict[str, Any]) -> None:
    def pruned(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: pruned(x) for k, x in v.items() if x is not None}
        return [pruned(x) for x in v if x is not None] if isinstance(v, list) else v

    assert tomllib.loads(to_toml(value, "note")) == pruned(value)


def test_an_env_value_with_blanks_is_quoted_and_cannot_run_anything() -> None:
    text = to_env({"A": 'x "y" $(z) `w` \\'})
    assert re.fullmatch(r'A="x \\"y\\" \\\$\(z\) \\`w\\` \\\\"\n', text)


@pytest.mark.parametrize("name", ["mmlu_gpt4o", "mmlu_llama"])
def test_every_export_replayed_on_real_recorded_replies_gives_the_same_decisions(real_data: Path, name: str) -> None:
    folder = real_data / "recorded" / name
    bodies = [json.loads(line)["response"]["body"] for line in (folder / "cheap.jsonl").read_text().splitlines()]
    seen = sorted({b["model"] for b in bodies})
    side = {**document()["cheap"], "model": seen[0], "response_models_seen": seen}
    # the probability of the recorded answer token, read straight from the file
    direct = [math.exp(min(0.0, b["choices"][0]["logprobs"]["content"][0]["logprob"])) for b in bodies]
    for threshold in (0.5, sorted(direct)[len(direct) // 3], 0.99, 1.0):
        made = certified(labels=list("ABCD"), cheap=side, threshold=threshold, provider="recorded")
        policy = Policy(made)
        expected = [policy.decide(b).action for b in bodies]
        assert expected == ["accept" if c >= threshold else "escalate" for c in direct]
        again = [
            Policy(read_yaml(export(made, "yaml"))),
            Policy(null_restored(tomllib.loads(export(made, "toml")), made)),
        ]
        for other in again:
            assert [other.decide(b).action for b in bodies] == expected
        scaled = read_yaml(export(made, "vllm-semantic-router"))["routing"]["decisions"][0]["algorithm"]["confidence"][
            "threshold"
        ]
        assert [router(b, scaled) for b in bodies] == expected
