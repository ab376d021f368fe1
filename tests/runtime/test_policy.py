"""The production decision, against rules written out by hand."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from asking import request
from deliver.policies import CHEAP, LABELS, PROMPT, STRONG, body, document, one_token, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from together.types.chat import ChatCompletion

from cascade_threshold import policy_schema as documents
from cascade_threshold.policy import Decision, Policy, PolicyEditedWarning, load
from cascade_threshold.signals import SIGNALS
from pipeline.collect.providers.wire_form import WireForm
from pipeline.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "cascade_threshold/schemas/policy.schema.json").read_text())


@pytest.fixture
def policy() -> Policy:
    return Policy(document())


def test_the_text_of_the_request_changes_no_decision_of_a_signal_that_does_not_read_it(policy: Policy) -> None:
    for confidence in (0.89, 0.91):
        assert policy.decide(one_token(confidence), text="Dear all, ...") == policy.decide(one_token(confidence))


def test_a_policy_that_reads_the_segment_escalates_one_that_is_unknown_or_not_told() -> None:
    numbers = {
        "features": ["logit_first_token"],
        "mean": [0.0],
        "scale": [1.0],
        "coef": [1.0],
        "intercept": 0.0,
        "segments": {"de": 0.0, "fr": -9.0},
    }
    reader = Policy(document(signal={"name": "learned", "version": SIGNALS["learned"].version, "params": numbers}))
    assert (reader.reads_segment, reader.reads_text) == (True, False)
    sure = one_token(0.95)
    assert reader.decide(sure, segment="de").confidence == pytest.approx(0.95)
    assert [reader.decide(sure, segment=s).action for s in ("de", "fr")] == ["accept", "escalate"]
    for segment, word in ((None, "none was given"), ("it", "'it'"), ("", "'(none)'")):
        decision = reader.decide(sure, segment=segment)
        assert (decision.action, decision.status, decision.confidence) == ("escalate", "no_segment", None)
        assert word in decision.reason
    assert reader.decide(body(logprobs=False), segment="it").status == "no_logprobs", (
        "the reply's own fault comes first"
    )


def test_a_confidence_below_the_threshold_escalates_and_one_above_is_accepted(policy: Policy) -> None:
    low, high = policy.decide(one_token(0.89)), policy.decide(one_token(0.91))
    assert (low.action, low.answer, high.action, high.answer) == ("escalate", "spam", "accept", "spam")
    assert high.confidence == math.exp(math.log(0.91))
    assert high.calibrated_confidence == pytest.approx(
        1 / (1 + math.exp(-(0.7 * math.log(0.91 / 0.09) + 0.1))), rel=1e-12
    )
    assert (high.threshold, low.threshold) == (0.9, 0.9)


def test_a_tie_stays_with_the_cheap_model(policy: Policy) -> None:
    assert policy.decide_confidence(0.9).action == "accept"
    assert policy.decide_confidence(math.nextafter(0.9, 0)).action == "escalate"


@pytest.mark.parametrize("verdict", ["uncertified", "strong_only"])
def test_without_a_threshold_everything_escalates(verdict: str) -> None:
    policy = Policy(document(verdict=verdict, threshold=None))
    decision = policy.decide(one_token(1.0))
    assert (decision.action, decision.threshold) == ("escalate", None)
    assert verdict in decision.reason
    assert policy.document["calibrated_threshold"] is None


def test_threshold_zero_accepts_every_reply_that_has_a_confidence_and_no_other() -> None:
    policy = Policy(document(verdict="cheap_only", threshold=0.0))
    assert policy.decide(one_token(1e-9)).action == "accept"
    assert policy.decide_confidence(0.0).action == "accept"
    assert policy.decide_confidence(None).action == "escalate"
    assert policy.decide(body(logprobs=False)).action == "escalate"


@pytest.mark.parametrize("value", [None, math.nan, -0.1, 1.0000001, math.inf])
def test_what_is_not_a_confidence_escalates_with_a_null_confidence(policy: Policy, value: float | None) -> None:
    decision = policy.decide_confidence(value)
    assert (decision.action, decision.confidence, decision.calibrated_confidence) == ("escalate", None, None)
    assert decision.reason


@pytest.mark.parametrize(
    ("completion", "word"),
    [
        (body(logprobs=False), "no_logprobs"),
        (
            body("a poem about spam", [("a", -0.01), (" poem", -0.01), (" about", -0.01), (" spam", -0.01)]),
            "out_of_set",
        ),
        (body("spam", [("spam", None)]), "no_logprobs"),
        (body(""), "empty"),
        ({"error": {"message": "overloaded"}}, "failed"),
        ("not json", "failed"),
        (b"\xff\xfe", "failed"),
        (None, "failed"),
        (17, "failed"),
        ([], "failed"),
    ],
)
def test_a_reply_without_a_confidence_escalates_and_says_why(policy: Policy, completion: Any, word: str) -> None:
    decision = policy.decide(completion)
    assert (decision.action, decision.confidence) == ("escalate", None)
    assert word in decision.reason
    assert decision.status == word


def test_a_reply_of_a_model_that_calibration_never_saw_escalates_even_when_sure(policy: Policy) -> None:
    for model in ("Qwen/Qwen3.5-9B-Turbo", None):
        decision = policy.decide(one_token(0.999, model=model))
        assert (decision.action, decision.confidence) == ("escalate", None)
        assert "not seen in calibration" in decision.reason


def test_without_recorded_model_names_none_is_compared() -> None:
    side = {**document()["cheap"], "response_models_seen": []}
    assert Policy(document(cheap=side)).decide(one_token(0.99, model="anything")).action == "accept"


def test_nameless_replies_are_accepted_only_where_calibration_had_nameless_replies() -> None:
    side = {**document()["cheap"], "response_models_seen": ["(none)"]}
    assert Policy(document(cheap=side)).decide(one_token(0.99, model=None)).action == "accept"


def test_another_prompt_escalates_and_the_calibrated_one_does_not(policy: Policy) -> None:
    assert policy.decide(one_token(0.99), prompt_sha256=PROMPT).action == "accept"
    decision = policy.decide(one_token(0.99), prompt_sha256="00" * 32)
    assert decision.action == "escalate"
    assert "prompt" in decision.reason


def test_fewer_alternatives_than_calibration_had_escalate_where_the_signal_reads_them() -> None:
    def decide(signal: str, others: list[float], fewest: int | None = 5) -> Decision:
        named = {"name": signal, "version": SIGNALS[signal].version, "params": {}}
        cheap = {**document()["cheap"], "fewest_alternatives": fewest}
        listed = [(f"z{i}", logprob) for i, logprob in enumerate(others)]
        return Policy(document(signal=named, cheap=cheap)).decide(one_token(0.95, others=listed))

    for signal in ("margin", "label_probability"):
        few = decide(signal, [-6.5])
        assert (few.action, few.answer, few.confidence) == ("escalate", "spam", None)
        assert few.reason == "fewer alternatives than the 5 of calibration"
        assert decide(signal, [-6.5] * 4).action == "accept"
        assert decide(signal, [math.log(0.05)]).action == "accept", "the two listed are all there are"
        assert decide(signal, [-6.5], None).action == decide(signal, [-6.5], 2).action == "accept"
    assert decide("first_token", []).action == "accept", "the signal reads no alternatives"


@pytest.mark.parametrize(("feature", "action"), [("logit_mean", "accept"), ("logit_margin", "escalate")])
def test_a_learned_signal_asks_for_alternatives_only_where_its_model_reads_them(feature: str, action: str) -> None:
    numbers = {"features": [feature], "mean": [0.0], "scale": [1.0], "coef": [9.0], "intercept": 9.0}
    named = {"name": "learned", "version": SIGNALS["learned"].version, "params": numbers}
    policy = Policy(document(signal=named, cheap={**document()["cheap"], "fewest_alternatives": 5}))
    decision = policy.decide(one_token(0.95, others=[("z", -6.5)]))
    assert decision.action == action
    assert ("fewer alternatives" in decision.reason) == (action == "escalate")


def test_choose_takes_the_options_of_the_row() -> None:
    policy = Policy(document(kind="choose", labels=None))
    assert policy.decide(one_token(0.99, "C"), options=["x", "y", "z"]).answer == "C"
    assert policy.decide(one_token(0.99, "C"), options=3).action == "accept"
    assert policy.decide(one_token(0.99, "D"), options=["x", "y", "z"]).reason.startswith(
        "no confidence: status out_of_set"
    )
    for missing in (None, [], ["one"], 27, 3.5):
        assert policy.decide(one_token(0.99, "A"), options=missing).action == "escalate"  # type: ignore[arg-type]


def test_judge_answers_yes_or_no() -> None:
    policy = Policy(document(kind="judge", labels=None))
    assert policy.decide(one_token(0.99, "Yes")).answer == "yes"


def test_a_mapping_its_text_its_bytes_and_the_sdk_object_give_the_same_decision(policy: Policy) -> None:
    reply = one_token(0.93)
    text = json.dumps(reply)
    assert (
        policy.decide(reply)
        == policy.decide(text)
        == policy.decide(text.encode())
        == policy.decide(ChatCompletion.construct(**reply))
    )


def test_a_decision_has_exactly_the_six_public_fields(policy: Policy) -> None:
    assert list(policy.decide(one_token(0.93)).to_dict()) == [
        "action",
        "answer",
        "confidence",
        "calibrated_confidence",
        "threshold",
        "reason",
    ]


def test_the_request_carries_what_the_confidence_depends_on(policy: Policy) -> None:
    assert policy.request() == {
        "model": CHEAP,
        "temperature": 0,
        "max_tokens": 8,
        "reasoning": {"enabled": False},
        "logprobs": 5,
    }
    side = {**document()["cheap"], "logprobs_form": "boolean"}
    assert (
        Policy(document(cheap=side)).request() | {"logprobs": True, "top_logprobs": 5}
        == Policy(document(cheap=side)).request()
    )
    assert policy.request("strong") == {"model": STRONG, "temperature": 0, "max_tokens": 8}


def test_logprobs_without_alternatives_are_asked_for_in_both_forms_and_in_production_alike() -> None:
    for form, asked in (("integer", {"logprobs": 1}), ("boolean", {"logprobs": True, "top_logprobs": 1})):
        sent = WireForm.parse(form).body(request("x", top_logprobs=0))
        assert {k: v for k, v in sent.items() if "logprobs" in k} == asked
        side = {
            "model": sent["model"],
            "params": {"temperature": 0, "max_tokens": 8},
            "logprobs_form": form,
            "top_logprobs": 0,
        }
        assert Policy(document(cheap=side)).request() == {k: v for k, v in sent.items() if k != "messages"}


def test_a_policy_of_given_confidences_decides_on_confidences_only() -> None:
    policy = Policy(document(signal={"name": "given", "version": None, "params": {}}))
    assert policy.decide_confidence(0.95).action == "accept"
    with pytest.raises(UsageError, match="came from a table"):
        policy.decide(one_token(0.95))


def test_writing_and_loading_a_policy_keeps_every_float(tmp_path: Path) -> None:
    threshold = 0.1 + 0.2 + 1e-16
    written = document(threshold=threshold, calibrator={"kind": "platt", "slope": 1 / 3, "intercept": 5e-324})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(write(tmp_path / "policy.json", written))
    assert loaded.document == written
    assert loaded.threshold == threshold


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"threshold": 0.5}, r"threshold is now 0\.5"),
        ({"labels": ["work", "personal", "spam", "misc"]}, "labels is now"),
        ({"task": "other_task"}, 'task is now "other_task"'),
    ],
)
def test_a_file_edited_by_hand_loads_with_a_warning_that_names_the_change(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    path = write(tmp_path / "policy.json", {**document(), **change})
    with pytest.warns(PolicyEditedWarning, match=named):
        policy = load(path)
    assert list(policy.edited) == list(change)


def test_an_edit_inside_a_part_is_named_with_its_path(tmp_path: Path) -> None:
    changed = document()
    changed["cheap"]["params"]["temperature"] = 1
    del changed["monitor"]["n_confidence"]
    changed["note"] = "mine"
    with pytest.warns(PolicyEditedWarning, match=r"cheap\.params is now .*monitor\.n_confidence is gone.*note is now"):
        load(write(tmp_path / "policy.json", changed))


def test_an_edit_is_noticed_even_when_the_part_digests_are_removed(tmp_path: Path) -> None:
    changed = {k: v for k, v in document().items() if k != "digests"} | {"threshold": 0.1}
    with pytest.warns(PolicyEditedWarning, match="digest does not match"):
        load(write(tmp_path / "policy.json", changed))


def test_white_space_and_the_order_of_keys_are_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(dict(reversed(document().items())), indent=8))
    assert load(path).edited == ()


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("{", DataError, "damaged"),
        ("[]", DataError, "not a policy"),
        ('{"schema": "cascade-policy/2"}', DataError, "another version"),
        ('{"schema": "something"}', DataError, "another kind"),
        ('{"schema": "cascade-policy/1", "threshold": NaN}', DataError, "NaN"),
        ('{"schema": "cascade-policy/1", "schema": "cascade-policy/1"}', DataError, "twice"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(tmp_path: Path, content: str, error: type[Exception], words: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(content)
    with pytest.raises(error, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError):
            load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 1.5}, "threshold is 1.5, expected at most 1"),
        ({"threshold": "0.9"}, 'threshold is "0.9", expected number or null'),
        ({"comparator": "<="}, "comparator"),
        ({"verdict": "sure"}, "verdict"),
        ({"signal": {"name": "first_token", "version": 99, "params": {}}}, "version 99"),
        ({"signal": {"name": "first_token", "version": 1, "params": {}}}, "calibrated on version 1"),
        ({"signal": {"name": "vibes", "version": 1, "params": {}}}, "'vibes' is unknown"),
        ({"signal": {"name": "learned", "version": 4, "params": {}}}, "learned signal lacks"),
        ({"calibrator": {"kind": "platt"}}, "calibrator"),
        ({"labels": ["one"]}, "labels has 1 entries"),
        ({"labels": ["a", "a"]}, "listed twice"),
        ({"verdict": "uncertified"}, "escalates everything, and threshold is .*write null as the threshold"),
        ({"verdict": "strong_only"}, "escalates everything, and threshold is"),
    ],
)
def test_a_field_that_cannot_be_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "policy.json", {**document(), **change})
    with pytest.raises(DataError, match=words):
        load(path)


def test_missing_fields_are_all_named() -> None:
    broken = document()
    del broken["threshold"], broken["cheap"]["model"]
    with pytest.raises(DataError, match=r"threshold is missing; cheap\.model is missing"):
        Policy(broken)


def test_the_schema_is_valid_and_the_documents_follow_it() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for changes in (
        {},
        {
            "verdict": "uncertified",
            "threshold": None,
            "monitor": None,
            "certificate": None,
            "expected": None,
            "cheap": None,
            "strong": None,
            "calibrator": None,
            "provider": None,
            "prompt_sha256": None,
            "dataset_sha256": None,
            "labels": None,
            "kind": "choose",
            "signal": {"name": "given", "version": None, "params": {}},
        },
    ):
        jsonschema.validate(document(**changes), SCHEMA)


_junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 30),
    st.floats(-2, 2),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just(["a", 3]),
)


@pytest.mark.slow
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_our_check_agrees_with_a_schema_library_on_mutated_policies(data: st.DataObject) -> None:
    broken = json.loads(json.dumps(document()))
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = broken
        while isinstance(place, dict) and place:
            key = data.draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or data.draw(st.booleans()):
                if data.draw(st.booleans()):
                    place[key] = data.draw(_junk)
                else:
                    del place[key]
                break
            place = place[key]
    ours = not list(documents.problems(broken, SCHEMA))
    assert ours == jsonschema.Draft202012Validator(SCHEMA).is_valid(broken)


def test_the_digest_is_the_sha256_of_the_canonical_rest() -> None:
    import hashlib

    made = document()
    rest = {k: v for k, v in made.items() if k != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert made["digest"] == hashlib.sha256(text.encode()).hexdigest()


def test_importing_the_policy_loads_the_standard_library_only() -> None:
    code = (
        "import sys, cascade_threshold.policy\n"
        "ours = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(m for m in ours if not m.startswith('_')))\n"
        "import time; print(time.process_time())"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    names, _seconds = found.stdout.splitlines()
    assert names == "['cascade_threshold']"


@settings(max_examples=100)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=4)),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "content", "logprobs", "tokens", "token_logprobs", "model", "usage"]
                ),
                x,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_completion_makes_the_decision_raise(completion: Any) -> None:
    decision = Policy(document()).decide(completion)
    assert decision.action == "escalate"
    assert decision.reason


def test_the_labels_of_the_policy_are_the_answer_set(policy: Policy) -> None:
    assert list(policy.answer_set().labels) == LABELS


@pytest.mark.parametrize("value", [None, math.nan])
def test_the_reason_for_an_unknown_confidence_is_that_there_is_none(value: float | None) -> None:
    assert Policy(document()).decide_confidence(value).reason == "no confidence"
