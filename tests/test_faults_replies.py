"""Odd replies: rows 10-19 and 22-24 of the fault matrix, from the socket to the confidence."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from asking import KEY, request, rows
from fake_provider import LABELS, FakeProvider, completion, http, label_of, ok
from run_folder import RunFolder

from cascade_threshold import policy
from cascade_threshold.answers import AnswerSet
from cascade_threshold.pricing import Usage
from cascade_threshold.signals import measure
from pipeline.__main__ import main

ANSWERS = AnswerSet.classify(("work", "personal", "spam", "other"))
pytest_plugins = ("asking_fixtures",)


def choice(content: Any, logprobs: Any = None, finish_reason: str = "stop", **message: Any) -> Any:
    return [
        {
            "index": 0,
            "finish_reason": finish_reason,
            "message": {"role": "assistant", "content": content, **message},
            "logprobs": logprobs,
        }
    ]


def content(*tokens: tuple[str, Any]) -> dict[str, Any]:
    return {"content": [{"token": t, "bytes": list(t.encode()), "logprob": lp, "top_logprobs": []} for t, lp in tokens]}


def confidence(store, req):
    return measure(store.get(req.request_id).body, ANSWERS)


# Row 10


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
        {"choices": choice(None)},
        {"choices": choice("")},
    ],
    ids=["no choices", "choices null", "message null", "content null", "content empty"],
)
def test_row_10_an_empty_reply_is_asked_for_once_more_and_then_kept_as_empty_without_a_confidence(ask, store, changes):
    with FakeProvider({"row 1.": [ok(**changes)], "row 2.": [ok(**changes)] * 5}) as api:
        report = ask(api, rows(4))
        assert (api.count("row 1."), api.count("row 2.")) == (2, 2)
    assert (report.kept, report.failed, report.troubles) == (4, 0, {"empty": 3})
    assert confidence(store, request("row 1.")).status == "ok"
    m = confidence(store, request("row 2."))
    assert m.status == "empty"
    assert all(value is None for value in m.signals.values())


def test_row_10_an_empty_reply_that_a_killed_run_left_is_asked_for_once_more_as_that_run_would_have(ask, store):
    with FakeProvider({"row 2.": [ok(choices=[])]}) as api:
        ask(api, rows(4))
        second = store.query("SELECT max(id) FROM attempt WHERE request_id=?", [request("row 2.").request_id])[0][0]
        store.transaction([("DELETE FROM attempt WHERE id=?", [second])])  # killed before the second try
        assert ask(api, rows(4)).kept == 1
        assert confidence(store, request("row 2.")).status == "ok"
        assert ask(api, rows(4)).sent == 0
    with FakeProvider({"row 5.": [ok(choices=[])] * 9}) as api:
        ask(api, rows(7))
        assert ask(api, rows(7)).sent == 0, "asked twice, and kept as empty"


def test_both_posts_of_an_empty_reply_are_in_the_bill(ask):
    with FakeProvider({"row 2.": [ok(choices=[])]}) as api:
        report = ask(api, rows(4))
        assert report.usd == pytest.approx(api.usd)
        assert len(api.posts) == 5


def test_an_empty_reply_at_the_length_limit_is_not_asked_for_again(ask, store):
    """Reasoning used up max_tokens: asking again would cost the same and bring the same."""
    with FakeProvider({"row 2.": [ok(choices=choice("", finish_reason="length", reasoning="Let me think"))]}) as api:
        report = ask(api, rows(4))
        assert len(api.posts) == 4
    assert report.kept == 4
    assert confidence(store, request("row 2.")).status == "truncated"


# Rows 11, 13, 14 and 15


@pytest.mark.parametrize("logprobs", [None, {"content": []}, {"content": None}, {}, "none", []], ids=str)
def test_row_11_a_reply_without_logprobs_is_kept_and_has_no_confidence(ask, store, logprobs):
    with FakeProvider({"row 2.": [ok(choices=choice("spam", logprobs))]}) as api:
        assert ask(api, rows(4)).kept == 4
    m = confidence(store, request("row 2."))
    assert (m.status, m.answer) == ("no_logprobs", "spam")
    assert all(value is None for value in m.signals.values())


def test_both_wire_shapes_in_one_run_give_the_same_confidence(ask, store):
    label, logprob = label_of("row 2.")
    legacy = {"tokens": [label], "token_logprobs": [logprob], "top_logprobs": [{label: logprob}]}
    with FakeProvider({"row 2.": [ok(choices=choice(label, legacy))]}) as api:
        ask(api, [request("row 2."), request("row 2.", repeat=1)])
    one, two = (confidence(store, request("row 2.", repeat=i)) for i in (0, 1))
    assert one.answer == two.answer == label
    assert one.signals["label_sequence"] == two.signals["label_sequence"] == math.exp(logprob)
    assert {one.reply.shape, two.reply.shape} == {"content", "legacy"}


@pytest.mark.parametrize("value", ["NaN", "null", "1e-3", "-Infinity", "-9999.0", '"-0.1"'])
def test_row_15_an_impossible_logprob_of_the_answer_gives_no_confidence(ask, store, value):
    body = json.dumps({"choices": choice("spam", content(("spam", 12345)))}).replace("12345", value)
    with FakeProvider({"row 2.": [ok(**json.loads(body))]}) as api:
        assert ask(api, rows(3)).kept == 3
    m = confidence(store, request("row 2."))
    assert m.status == "no_logprobs"
    assert m.signals["label_sequence"] is None


# Row 12


def test_row_12_a_model_that_wants_a_boolean_is_asked_in_that_form_after_one_refusal(ask, store):
    def newer(post):
        return http(400, message="logprobs: expected a boolean") if post.body["logprobs"] is not True else None

    with FakeProvider(newer) as api:
        report = ask(api, rows(20), concurrency=4)
        assert len(api.posts) == 21
        assert all((p.body["logprobs"], p.body["top_logprobs"]) == (True, 3) for p in api.posts[1:])
    assert (report.kept, report.troubles) == (20, {"other_form": 1})
    assert {reply.wire_form for reply in store.replies(r.request_id for r in rows(20))} == {"boolean"}


def test_a_server_that_answers_the_integer_with_500_is_asked_in_the_other_form(ask):
    """llama-cpp-python's server does."""
    with FakeProvider(
        lambda p: http(500, message="Input should be a valid boolean") if p.body["logprobs"] is not True else None
    ) as api:
        assert ask(api, rows(5)).kept == 5
        assert len(api.posts) == 6


def test_another_form_on_the_wire_does_not_pay_again(ask):
    with FakeProvider() as api:
        ask(api, rows(5))
    with FakeProvider(
        lambda p: http(400, message="logprobs must be a boolean") if p.body["logprobs"] is not True else None
    ) as api:
        assert ask(api, rows(5)).sent == 0


def test_the_strong_role_asks_for_no_logprobs(ask):
    with FakeProvider() as api:
        ask(api, [request("x", role="strong", top_logprobs=None)])
        assert not {"logprobs", "top_logprobs", "top_p"} & set(api.posts[0].body)


# Rows 17 and 19


def test_row_17_reasoning_tokens_before_the_answer_do_not_enter_its_confidence(ask, store):
    tokens = content(("Hmm", -3.0), (", ads", -2.0), ("spam", -0.25))
    with FakeProvider({"row 2.": [ok(choices=choice("spam", tokens, reasoning="Hmm, ads"))]}) as api:
        ask(api, rows(3))
    m = confidence(store, request("row 2."))
    assert m.status == "ok"
    assert m.signals["label_sequence"] == math.exp(-0.25)


@pytest.mark.parametrize("text", ["impersonal", "spam or work", "I cannot help with that.", "Spam!! and work"])
def test_row_19_an_answer_outside_the_set_is_counted_and_never_mapped(ask, store, text):
    with FakeProvider({"row 2.": [ok(choices=choice(text, content((text, -0.1))))]}) as api:
        ask(api, rows(3))
    m = confidence(store, request("row 2."))
    assert (m.status, m.answer) == ("out_of_set", None)


# Rows 23 and 24


def test_another_model_than_the_one_asked_for_is_visible_in_the_kept_reply(ask, store):
    with FakeProvider({"row 2.": [ok(model="cheap-model-v2")]}) as api:
        ask(api, rows(3))
    reply = store.get(request("row 2.").request_id)
    assert reply.model == "cheap-model"
    assert json.loads(reply.body)["model"] == "cheap-model-v2"


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": 12}, "n/a"], ids=str
)
def test_row_24_a_reply_without_usage_costs_an_unknown_amount_and_not_nothing(ask, store, usage):
    with FakeProvider({"row 2.": [ok(usage=usage if isinstance(usage, dict) else None)]}) as api:
        report = ask(api, rows(3))
    kept = store.get(request("row 2.").request_id)
    assert not Usage(kept.input_tokens, kept.output_tokens).known
    assert report.unknown_usd == pytest.approx((6 + 4 + 200 + 16) / 1e6)
    assert report.usd == pytest.approx(
        api.usd - (usage or {}).get("prompt_tokens", 0) / 1e6 if isinstance(usage, dict) else api.usd
    )


@pytest.mark.parametrize("value", [10**30, 2**63, -1])
@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("prompt_tokens", "input_tokens"),
        ("completion_tokens", "output_tokens"),
        ("reasoning_tokens", "reasoning_tokens"),
    ],
)
def test_a_count_that_no_table_can_hold_is_unknown_and_loses_no_reply(ask, store, name, column, value):
    usage = {"prompt_tokens": 12, "completion_tokens": 1, "reasoning_tokens": 0, name: value}
    with FakeProvider({"row 2.": [ok(usage=usage)]}) as api:
        assert ask(api, rows(5)).kept == 5
    assert getattr(store.get(request("row 2.").request_id), column) is None


def test_reasoning_tokens_are_read_from_nested_details(ask, store):
    usage = {"prompt_tokens": 12, "completion_tokens": 30, "completion_tokens_details": {"reasoning_tokens": 28}}
    with FakeProvider({"row 2.": [ok(usage=usage)]}) as api:
        ask(api, rows(3))
    assert store.get(request("row 2.").request_id).reasoning_tokens == 28


# Rows 13, 14 and 22, from the socket to the tables, the report and the policy

TEXTS = [f"mail {i}." for i in range(240)]
ODD = set(TEXTS[1::3])


class Evaluated:
    """What one evaluation of `TEXTS` leaves."""

    def __init__(self, printed: dict[str, Any], folder: Path) -> None:
        self.run = RunFolder(folder / "runs", printed)
        self.page = Path(printed["report"]).read_text()
        self.policy = policy.load(printed["policy"])

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.run / name).read_text())

    def table(self, name: str) -> pd.DataFrame:
        """A table by text: the rows' ids are their texts."""
        frame = pd.read_parquet(self.run / name)
        return (
            frame[frame["role"] == "cheap"].set_index("example_id")
            if "role" in frame
            else frame.set_index("example_id")
        )


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """evaluate(how) -> Evaluated; `how` answers the cheap model's posts, with None in the usual way."""
    price = "{{input: {}, output: {}, as_of: 2026-11-22, source: made up}}"
    (tmp_path / "rows.jsonl").write_text(
        "".join(
            json.dumps({"id": t, "text": t, "label": label_of(t)[0] if i % 5 else LABELS[i % 4]}) + "\n"
            for i, t in enumerate(TEXTS)
        )
    )
    (tmp_path / "odd.yaml").write_text(
        "task: odd\nkind: classify\ndataset: {path: rows.jsonl, id: id, label: label}\nlabels: [work, personal, spam, other]\n"
        'prompt: {system: "Sort.", user: "{text}"}\nprovider: together\n'
        f"cheap: {{model: small, usd_per_million_tokens: {price.format(1, 2)}, top_logprobs: 4, params: {{temperature: 0, max_tokens: 8}}}}\n"
        f"strong: {{model: large, usd_per_million_tokens: {price.format(50, 100)}, params: {{temperature: 0, max_tokens: 8}}, splits: [certify, test]}}\n"
        "target: {kind: match_strong, within: 0.1}\n"
    )
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)

    def run(how: Any, name: str = "one") -> Evaluated:
        folder = tmp_path / name
        options = ("--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet", "--json")
        with FakeProvider(lambda post: how(post) if post.body["model"] == "small" else None) as api:
            monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
            assert main(["evaluate", str(tmp_path / "odd.yaml"), *options]) == 0
            asked = Counter((post.body["model"], post.text) for post in api.posts)
            assert set(asked.values()) == {1}
        return Evaluated(json.loads(capsys.readouterr().out), folder)

    return run


def legacy(post: Any, alternatives: Any) -> Any:
    """The usual answer in the legacy shape; `alternatives` makes its top_logprobs from those of the usual one."""
    usual = completion(post.body)["choices"][0]
    (entry,) = usual["logprobs"]["content"]
    top = alternatives({e["token"]: e["logprob"] for e in entry["top_logprobs"]})
    shape = {"tokens": [entry["token"]], "token_logprobs": [entry["logprob"]], "top_logprobs": top}
    return ok(choices=choice(entry["token"], shape))


@pytest.mark.slow
def test_row_22_a_filtered_reply_is_asked_for_once_counted_as_filtered_and_escalates(evaluate):
    """As hosts send it: status 200, the answer withheld or cut, and why in finish_reason."""

    def filters(post):
        usual = completion(post.body)["choices"][0]
        shown = ("", None) if post.text == TEXTS[1] else (usual["message"]["content"], usual["logprobs"])
        return ok(choices=choice(*shown, finish_reason="content_filter")) if post.text in ODD else None

    found = evaluate(filters)
    replies, predictions = found.table("replies.parquet"), found.table("predictions.parquet")
    assert set(replies.index[replies["finish_reason"] == "content_filter"]) == ODD
    assert set(predictions.index[predictions["cheap_status"] == "filtered"]) == ODD
    assert set(predictions.index[predictions["confidence"].isna()]) == ODD
    assert not predictions.loc[sorted(ODD), "cheap_correct"].any()
    statuses = found.json("run.json")["measured"]["statuses"]["cheap"]
    assert statuses == {"filtered": len(ODD), "ok": len(TEXTS) - len(ODD)}
    assert f"filtered by the provider</td><td>{len(ODD)}</td>" in found.page
    # both models answer alike, so a cascade that keeps the promise escalates what has no confidence and nothing else
    advice = found.json("recommendation.json")
    tested = predictions[predictions["split"] == "certify"]
    assert advice["threshold"] == 0
    assert advice["expected"]["escalation_rate"]["value"] == pytest.approx(tested.index.isin(ODD).mean())
    body = completion({"model": "small", "messages": [{"content": "x"}], "logprobs": 4})
    assert found.policy.decide(body).action == "accept"
    body["choices"][0]["finish_reason"] = "content_filter"
    decision = found.policy.decide(body)
    assert (decision.action, decision.status) == ("escalate", "filtered")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("top", "count"),
    [(lambda top: [dict([next(iter(top.items()))])], 1), (lambda top: [None], 0), (lambda top: None, 0)],
    ids=["one", "none for the token", "no list"],
)
def test_row_14_with_fewer_than_two_alternatives_in_the_legacy_shape_the_other_signals_are_used_and_the_page_says_why(
    evaluate, top, count
):
    found = evaluate(lambda post: legacy(post, top))
    assert set(found.table("replies.parquet")["shape"]) == {"legacy"}
    assert {len(alternatives) for alternatives in found.table("tokens.parquet")["alternatives"]} == {count}
    predictions = found.table("predictions.parquet")
    assert set(predictions["cheap_status"]) == {"ok"}
    for name in ("margin", "entropy", "label_probability"):
        assert predictions[f"signal_{name}"].isna().all()
    assert dict(predictions["confidence"]) == {t: math.exp(label_of(t)[1]) for t in TEXTS}
    assert "few_alternatives" in {w["code"] for w in found.json("recommendation.json")["warnings"]}
    assert "No value from margin, entropy, label probability where fewer than two alternatives came" in found.page


@pytest.mark.slow
def test_row_13_both_wire_shapes_in_one_run_are_told_row_by_row_and_give_the_predictions_of_either(evaluate):
    mixed = evaluate(lambda post: legacy(post, lambda top: [top]) if post.text in ODD else None)
    shapes = mixed.table("replies.parquet")["shape"]
    assert dict(shapes) == {t: "legacy" if t in ODD else "content" for t in TEXTS}
    plain = evaluate(lambda post: None, "two")
    one, other = (made.table("predictions.parquet").drop(columns=["cheap_s", "strong_s"]) for made in (mixed, plain))
    pd.testing.assert_frame_equal(one, other)
