"""The watch on the promise over whole logs: what it says, what it leaves out, and what it reads from each line."""

from __future__ import annotations

import bisect
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from deliver.policies import CHEAP, STRONG, body, document, facts, one_token, population
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cascade_threshold.policy import Policy
from pipeline.decide.monitor_facts import quantiles
from pipeline.deliver.monitoring.log_reader import request_digest
from pipeline.deliver.monitoring.monitor import check
from pipeline.deliver.monitoring.monitor_text import BLIND_SPOT


def line(policy: Policy, confidence: float | None, **more: Any) -> dict[str, Any]:
    """A decision line as the cascade writes it."""
    found = policy.decide_confidence(confidence)
    return {
        "action": found.action,
        "confidence": confidence,
        "status": "ok" if confidence is not None else "out_of_set",
        "answer": "spam",
        "model": CHEAP,
        "policy": policy.document["digest"][:16],
        "request": request_digest(policy),
        **more,
    }


# ---- whole logs


@pytest.fixture(scope="module")
def policy() -> Policy:
    rng = np.random.default_rng(11)
    seen = population(rng, 2000).tolist()
    t = float(np.round(np.quantile(seen, 0.21), 3))
    monitor = facts(
        seen,
        t,
        agrees=[1.0 if i % 20 else 0.0 for i in range(2000)],
        target={"kind": "accepted_accuracy", "at_least": 0.95},
    )
    return Policy(document(threshold=t, monitor=monitor))


def test_production_like_calibration_holds(policy: Policy) -> None:
    rng = np.random.default_rng(12)
    lines = [line(policy, c, label="spam" if rng.random() < 0.97 else "work") for c in population(rng, 3000)]
    report = check(policy, [json.dumps(x) for x in lines])
    assert (report["verdict"], report["holds"]) == ("holds", True)
    assert report["lines"]["judged"] == 3000
    assert report["evidence"][0]["labels"] == sum(x["action"] == "accept" for x in lines)
    assert BLIND_SPOT in report["text"]


@pytest.mark.slow
def test_whole_logs_of_3000_lines_raise_false_alarms_within_the_stated_rates(policy: Policy) -> None:
    rng = random.Random(13)
    base = np.random.default_rng(14)
    drift, broken, runs = 0, 0, 20
    for _ in range(runs):
        lines = [
            {
                "action": "accept" if c >= (policy.threshold or 0) else "escalate",
                "confidence": float(c),
                "correct": rng.random() >= 0.05,
            }
            for c in population(base, 3000)
        ]
        report = check(policy, lines)
        drift += any(c["alarm"] for c in report["checks"])
        broken += not report["holds"]
    # four tests at 1 %, the calibration sample itself being one of many: at most a few per cent
    assert drift <= 4
    assert broken <= 0.05 * runs + 3 * math.sqrt(runs * 0.05 * 0.95)


def test_a_drop_in_accuracy_at_equal_confidence_is_seen_by_the_labels_and_by_nothing_else(policy: Policy) -> None:
    rng = np.random.default_rng(15)
    confidences = population(rng, 3000)
    blind = check(policy, [line(policy, c) for c in confidences])
    assert (blind["verdict"], blind["tested"]) == ("untested", False)
    assert "NOTHING TESTED THE PROMISE" in blind["text"][-1]
    audited = check(policy, [line(policy, c, correct=bool(rng.random() < 0.90)) for c in confidences])
    assert (audited["verdict"], audited["holds"]) == ("broken", False)
    assert not any(c["alarm"] for c in audited["checks"])
    assert "no longer holds" in audited["text"][0]
    assert audited["evidence"][0]["alarm_at"] < 1000


def test_a_shadow_sample_of_strong_answers_tests_disagreement(policy: Policy) -> None:
    rng = np.random.default_rng(16)
    lines = [line(policy, c, strong_answer="work" if rng.random() < 0.2 else "Spam") for c in population(rng, 600)]
    report = check(policy, lines)
    assert [e["alarm"] for e in report["evidence"]] == [False, True, False]
    assert "differ from the strong model" in report["text"][0]


def test_labels_of_escalated_requests_do_not_count(policy: Policy) -> None:
    low = (policy.threshold or 1) / 2
    report = check(policy, [line(policy, low, label="work") for _ in range(100)])
    assert report["evidence"][0]["labels"] == 0


def test_harder_requests_are_drift_and_only_a_warning(policy: Policy) -> None:
    report = check(policy, [line(policy, c) for c in population(np.random.default_rng(17), 2000, easy=0.5)])
    assert (report["verdict"], report["holds"]) == ("drift", True)
    assert "confidence distribution" in report["text"][0]


def test_drift_is_judged_on_the_newest_lines(policy: Policy) -> None:
    rng = np.random.default_rng(18)
    lines = [line(policy, c) for c in [*population(rng, 6000), *population(rng, 2000, easy=0.4)]]
    assert check(policy, lines)["verdict"] == "drift"
    assert check(policy, lines[::-1])["verdict"] == "untested"


def test_out_of_set_answers_and_missing_logprobs_are_two_checks(policy: Policy) -> None:
    rng = np.random.default_rng(19)
    fine = [line(policy, c) for c in population(rng, 950)]
    for status, name in (
        ("out_of_set", "answers out of the set"),
        ("no_logprobs", "missing logprobs"),
        ("unaligned", "missing logprobs"),
    ):
        report = check(policy, [*fine, *[line(policy, None, status=status) for _ in range(50)]])
        assert [c["name"] for c in report["checks"] if c["alarm"] and c["name"] != "escalation rate"] == [name]


def test_another_model_breaks_the_promise_whatever_the_answers(policy: Policy) -> None:
    for other in (line(policy, 0.99, model="Qwen/Qwen4-9B"), one_token(0.99, model="Qwen/Qwen4-9B")):
        report = check(policy, [line(policy, 0.99), other])
        assert (report["verdict"], report["holds"]) == ("broken", False)
        assert report["models"] == {"Qwen/Qwen4-9B": 1}


def test_a_failed_call_and_a_nameless_reply_are_not_another_model(policy: Policy) -> None:
    failed = line(policy, None, model=None, status="failed")
    assert check(policy, [failed])["holds"]
    report = check(policy, [one_token(0.99, model=None)])
    assert (report["holds"], report["verdict"], report["lines"]["nameless_model"]) == (True, "untested", 1)


@pytest.mark.parametrize(
    ("change", "fate"),
    [
        ({"policy": "0" * 16}, "other_policy"),
        ({"request": "0" * 16}, "other_request"),
        ({"reason": "another prompt than the calibrated one"}, "other_request"),
        ({"action": "escalate"}, "other_decision"),
    ],
)
def test_lines_of_another_policy_other_parameters_or_another_threshold_warn_and_are_left_out(
    policy: Policy, change: dict[str, Any], fate: str
) -> None:
    report = check(policy, [line(policy, 0.999), {**line(policy, 0.999), **change}])
    assert (report["verdict"], report["lines"][fate], report["lines"]["judged"]) == ("drift", 1, 1)


def test_raw_completions_and_batch_output_are_decided_by_the_policy(policy: Policy) -> None:
    raw = [
        json.dumps(one_token(0.999)),
        {"completion": one_token(0.999), "label": "spam"},
        {"custom_id": "7", "response": {"status_code": 200, "body": one_token(0.999)}, "label": "work"},
        {"completion": json.dumps(one_token(0.3))},
        body(model=STRONG),
    ]
    report = check(policy, raw)
    assert (report["lines"]["judged"], report["lines"]["strong"], report["lines"]["bad"]) == (4, 1, 0)
    assert (report["evidence"][0]["labels"], report["evidence"][0]["errors"]) == (2, 1)


def test_rows_with_options_are_read_with_their_own_options() -> None:
    choose = Policy(document(kind="choose", labels=None))
    report = check(
        choose,
        [
            {"completion": one_token(0.99, "C"), "options": ["x", "y", "z"], "label": "c"},
            {"completion": one_token(0.99, "C"), "options": 2},
        ],
    )
    assert (report["evidence"][0]["labels"], report["evidence"][0]["errors"]) == (1, 0)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5)),
    lambda x: (
        st.lists(x, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "action",
                    "confidence",
                    "status",
                    "model",
                    "policy",
                    "completion",
                    "response",
                    "body",
                    "choices",
                    "label",
                    "correct",
                    "options",
                    "strong_answer",
                ]
            ),
            x | st.sampled_from(["accept", "escalate"]),
            max_size=6,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.binary(max_size=20),
            _json.map(json.dumps),
            st.dictionaries(st.just("action"), _json),
        ),
        max_size=4,
    )
)
def test_no_line_makes_the_monitor_raise(lines: list[Any]) -> None:
    report = check(Policy(document()), lines)
    assert sum(v for k, v in report["lines"].items() if k != "read") == report["lines"]["read"]
    json.dumps(report, allow_nan=False)


def test_an_empty_log_is_untested_and_no_alarm(policy: Policy) -> None:
    for lines in ([], ["", "\n"], ["nonsense"]):
        report = check(policy, lines)
        assert (report["verdict"], report["holds"]) == ("untested", True)


def test_a_policy_of_given_confidences_is_watched_through_its_decision_lines() -> None:
    given_ = Policy(document(signal={"name": "given", "version": None, "params": {}}, cheap=None, strong=None))
    report = check(given_, [{"action": "accept", "confidence": 0.95, "correct": True}, one_token(0.99)])
    assert (report["lines"]["judged"], report["lines"]["bad"]) == (1, 1)


# ---- what the policy carries for it


def test_the_facts_come_from_the_certify_rows() -> None:
    found = facts(
        [None, 0.2, 0.95, 0.97, float("nan")],
        0.9,
        cheap_correct=[0, 1, 1, 0, None],
        agrees=[0, 0, 1, 1, 0],
        target={"kind": "budget"},
    )
    assert (found.n_certify, found.n_confidence, found.n_escalated) == (5, 3, 3)
    assert found.null_rate == 0.4
    assert found.out_of_set_rate == 0.2  # the NaN row counts as ok here
    assert found.accepted_error_bound == pytest.approx(stats.binomtest(1, 2).proportion_ci(0.8).high)
    assert found.accepted_disagreement_bound == pytest.approx(1 - 0.1 ** (1 / 2))


def upper(failures: int, n: int) -> float:
    """The upper confidence bound at certainty 0.9, from a peer."""
    return float(stats.binomtest(failures, n).proportion_ci(0.8, method="exact").high)


def test_the_bound_on_errors_is_what_the_promise_leaves_to_accepted_answers() -> None:
    # 100 rows, 80 accepted; among the accepted the cheap model errs 4 times and the strong one twice, among the rest twice
    confidence = [0.95] * 80 + [0.5] * 20
    rows: dict[str, Any] = {
        "cheap_correct": [0.0] * 4 + [1.0] * 96,
        "strong_correct": [0.0] * 2 + [1.0] * 96 + [0.0] * 2,
        "agrees": [0.0] * 6 + [1.0] * 94,
    }

    def bounds(**target: Any) -> tuple[float, float]:
        found = facts(confidence, 0.9, target=target, **rows)
        return found.accepted_error_bound, found.accepted_disagreement_bound

    assert bounds(kind="accepted_accuracy", at_least=0.93) == pytest.approx((0.07, upper(6, 80)))
    assert bounds(kind="match_strong", within=0.04) == pytest.approx((upper(2, 80) + 0.05, upper(6, 80)))
    assert bounds(kind="match_strong", within=0.16) == pytest.approx((upper(2, 80) + 0.2, 0.2))
    assert bounds(kind="agree_with_strong", within=0.16) == pytest.approx((upper(4, 80), 0.2))
    assert bounds(kind="system_accuracy", at_least=0.86) == pytest.approx(((0.14 - 0.02) / 0.8, upper(6, 80)))
    assert bounds(kind="system_accuracy", at_least=0.95) == pytest.approx((upper(4, 80), upper(6, 80)))
    assert bounds(kind="total_cost", usd_per_error=1) == pytest.approx((upper(4, 80), upper(6, 80)))
    assert facts(confidence, None, target={"kind": "match_strong", "within": 0.02}, **rows).accepted_error_bound is None


def test_the_facts_are_those_of_productions_mix_where_the_rows_have_another() -> None:
    """A row that counts three times is three rows to every share; how many rows there are is Kish's effective number."""
    confidence = [0.95] * 8 + [0.5] * 4 + [None] * 4
    rows: dict[str, Any] = {"cheap_correct": [1.0] * 6 + [0.0] * 2 + [1.0] * 8, "agrees": [1.0] * 16}
    weights = [3.0 if i % 2 else 1.0 for i in range(16)]
    found = facts(confidence, 0.9, target={"kind": "budget"}, weights=weights, **rows)
    thrice = [i for i, w in enumerate(weights) for _ in range(int(w))]
    repeated = facts(
        [confidence[i] for i in thrice],
        0.9,
        target={"kind": "budget"},
        **{k: [v[i] for i in thrice] for k, v in rows.items()},
    )
    for name in ("confidence_quantiles", "out_of_set_rate", "no_logprobs_rate", "null_rate", "status_rates"):
        assert getattr(found, name) == getattr(repeated, name), name
    size = 16 * 2**2 / 5
    assert (found.n_certify, found.n_confidence) == (int(size), int(size * 12 / 16))
    assert found.n_escalated == round(int(size) * repeated.n_escalated / repeated.n_certify)
    kept = size / 2
    assert found.accepted_error_bound == pytest.approx(stats.beta.ppf(0.9, kept / 4 + 1, kept * 3 / 4))


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=500))
def test_the_quantiles_are_the_smallest_values_that_cover_their_share(values: list[float]) -> None:
    """By the definition, counted in whole numbers: numpy's own inverted_cdf rounds shares such as 0.56 of 25 rows."""
    ordered = sorted(values)
    covered = [bisect.bisect_right(ordered, value) for value in ordered]
    expected = [
        next(v for v, c in zip(ordered, covered, strict=True) if 200 * c >= i * len(values)) for i in range(201)
    ]
    assert quantiles(ordered) == expected
