"""Signals against numpy and scipy, and what must hold for every reply."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.bodies import chat, entry, legacy, spelled

from cascade_threshold.answers import STATUSES, AnswerSet
from cascade_threshold.completion import parse
from cascade_threshold.learned import FEATURES, check_learned, features, learned_confidence
from cascade_threshold.signals import SIGNALS, measure, token_rows

ANSWERS = AnswerSet.classify(["a b", "a c", "d"])
logprobs = st.floats(-40, 0)
MODEL = {
    "features": ["logit_first_token", "entropy", "answer_tokens"],
    "mean": [0.5, 0.8, 2.0],
    "scale": [2.0, 0.1, 0.7],
    "coef": [1.5, -0.25, 0.125],
    "intercept": 0.3,
}


def value(body: Any, name: str, **options: Any) -> float:
    measured = measure(body, ANSWERS, **options)
    found = measured.signals[name]
    assert found is not None, measured.reasons
    return found


@given(st.lists(logprobs, min_size=1, max_size=3))
def test_signals_of_the_span_are_their_formulas(values: list[float]) -> None:
    pieces = [["a b"], ["a", " b"], ["a", " ", "b"]][len(values) - 1]
    body = chat(" **a b**.", [entry(" **", -9.0), *map(entry, pieces, values), entry("**.", -7.0)])
    array = np.array(values)
    assert value(body, "first_token") == pytest.approx(np.exp(array[0]))
    assert value(body, "label_sequence") == pytest.approx(np.exp(array.sum()))
    assert value(body, "label_sequence") == pytest.approx(np.prod(np.exp(array)))
    assert value(body, "mean") == pytest.approx(scipy.stats.gmean(np.exp(array)))
    assert value(body, "minimum") == pytest.approx(np.exp(array).min())


@pytest.mark.parametrize("pieces", [["d"], ["a", " b"]])
def test_rounding_above_zero_counts_as_certain(pieces: list[str]) -> None:
    for above in (5e-7, 1e-6):
        measured = measure(chat("".join(pieces), [entry(piece, above) for piece in pieces]), ANSWERS)
        plain = [measured.signals[name] for name in ("first_token", "label_sequence", "mean", "minimum")]
        assert plain == [1.0] * 4


def test_probabilities_that_sum_above_one_leave_nothing_unseen_and_no_mass_above_one() -> None:
    top = [("d", math.log(0.9)), (" D", math.log(0.3))]
    measured = measure(chat("d", [entry("d", top[0][1], top)]), ANSWERS)
    assert (measured.captured_mass, measured.unseen_mass) == (1.0, 0.0)
    assert measured.bounds("d") == (1.0, 1.0)
    assert measured.signals["entropy"] == pytest.approx(0.9**0.9 * 0.3**0.3)
    top = [("d", math.log(0.1)), ("a", math.log(0.8)), ("a ", math.log(0.8))]
    waiting = measure(chat("d", [entry("d", top[0][1], top)]), ANSWERS)
    assert waiting.captured_mass == pytest.approx(0.1)
    assert waiting.unseen_mass == 1.0, "two beginnings that labels share, 0.8 each"


def test_the_whole_probability_on_one_token_is_an_entropy_of_exactly_one() -> None:
    for rest in (-100.0, float("-inf"), -99.9):
        assert value(chat("d", [entry("d", 0.0, [("d", 0.0), ("x", rest)])]), "entropy") == 1.0


@given(st.lists(st.floats(-8, 4), min_size=2, max_size=20, unique=True), st.floats(0.01, 1.0))
def test_margin_and_entropy_are_their_formulas(logits: list[float], seen: float) -> None:
    p = scipy.special.softmax(np.array(logits)) * seen
    names = ["d", *(f"x{i}" for i in range(len(p) - 1))]
    top = [(name, float(np.log(q))) for name, q in zip(names, p, strict=True)]
    body = chat("d", [entry("d", top[0][1], top)])
    likeliest = np.sort(p)[::-1]
    assert value(body, "margin") == pytest.approx(1 - likeliest[1] / likeliest[0], abs=1e-12)
    whole = np.append(p, max(0.0, 1 - p.sum()))
    assert value(body, "entropy") == pytest.approx(np.exp(-scipy.stats.entropy(whole)), rel=1e-9)


def test_one_alternative_supports_the_plain_signals_only() -> None:
    body = chat("d", [entry("d", -0.25, [("d", -0.25)])])
    measured = measure(body, ANSWERS)
    null = {name for name, found in measured.signals.items() if found is None}
    assert null == {"margin", "entropy", "label_probability", "learned"}
    assert null == set(measured.reasons)
    assert all(measured.reasons.values())
    assert null - {"learned"} == {name for name, signal in SIGNALS.items() if signal.needs_alternatives > 1} - {
        "learned"
    }


def test_the_margin_of_a_tie_is_zero_and_not_minus_zero() -> None:
    tie = value(chat("d", [entry("d", -0.7, [("d", -0.7), ("x", -0.7)])]), "margin")
    assert (tie, math.copysign(1.0, tie)) == (0.0, 1.0)


@pytest.mark.parametrize("impossible", [-9999.0, float("-inf"), -100.0])
def test_a_chosen_token_that_is_listed_as_impossible_has_the_plain_signals_only(impossible: float) -> None:
    measured = measure(chat("d", [entry("d", -0.25, [("x", -0.5), ("d", impossible)])]), ANSWERS)
    assert measured.status == "ok"
    assert measured.signals["first_token"] == math.exp(-0.25)
    for name in ("margin", "entropy", "label_probability"):
        assert measured.signals[name] is None
        assert measured.reasons[name]
    twice = [("d", -0.25), ("d", impossible), ("x", -2.0)]
    assert value(chat("d", [entry("d", -0.25, twice)]), "margin") == pytest.approx(1 - math.exp(-1.75))


def test_fewer_alternatives_count_only_where_there_are_more() -> None:
    def fewer(count: int, *logprobs: float, text: str = "d") -> bool:
        top = [(token, logprob) for token, logprob in zip("dxyz", logprobs, strict=False)]
        return measure(chat(text, [entry("d", -0.25, top)]), ANSWERS).fewer_alternatives_than(count)

    assert [fewer(count, -0.25, -2.0) for count in (1, 2, 3, 5)] == [False, False, True, True]
    assert fewer(1), "none came"
    assert not fewer(0)
    assert not fewer(5, math.log(0.75), math.log(0.25)), "the two are all there are"
    assert fewer(5, -0.25, 0.7), "what cannot be read tells nothing of the rest"
    assert not fewer(5, -0.25, text="spam"), "no answer, no token to look at"
    assert not measure(chat("d", None), ANSWERS).fewer_alternatives_than(5)
    quoted = [entry('"'), entry("d", -0.25, [("d", -0.25), ("x", -2.0)]), entry('"')]
    assert not measure(chat('"d"', quoted), ANSWERS).fewer_alternatives_than(2), "only the label's first token is asked"


def test_every_signal_documents_itself() -> None:
    assert list(SIGNALS) == [
        "first_token",
        "label_sequence",
        "mean",
        "minimum",
        "margin",
        "entropy",
        "label_probability",
        "learned",
    ]
    for name, signal in SIGNALS.items():
        assert signal.name == name
        assert signal.version >= 1
        assert signal.formula
        assert signal.map
        assert signal.null_when


def test_one_signal_alone_is_the_same_bit_for_bit() -> None:
    top = [("a", -0.31), ("d", -1.5), (" A", -3.25), ("x", -4.0)]
    body = chat("a b", [entry("a", -0.31, top), entry(" b", -0.5, [(" b", -0.5), (" c", -1.0)]), entry("")])
    everything = measure(body, ANSWERS, learned=MODEL)
    for name in SIGNALS:
        alone = measure(json.dumps(body), ANSWERS, only=name, learned=MODEL)
        assert alone.signals == {name: everything.signals[name]}
        assert alone.signals[name] is not None
    assert measure(body, ANSWERS, only="label_probability").label_probabilities == everything.label_probabilities
    with pytest.raises(KeyError, match="first_token"):
        measure(body, ANSWERS, only="first")


def test_the_order_of_alternatives_does_not_matter() -> None:
    top = [("a", -0.31), ("d", -1.5), (" A", -3.25), ("x", -4.0), ("D", -5.0)]
    forward = measure(chat("d", [entry("d", -1.5, top)]), ANSWERS)
    backward = measure(chat("d", [entry("d", -1.5, top[::-1])]), ANSWERS)
    for name in SIGNALS:
        if name != "learned":
            assert forward.signals[name] == pytest.approx(backward.signals[name], rel=1e-14)


def test_a_judge_has_a_graded_score_and_a_choice_a_probability_for_every_option() -> None:
    top = [("No", math.log(0.6)), (" yes", math.log(0.1)), ("Yes", math.log(0.2)), ("Maybe", math.log(0.1))]
    judged = measure(chat("No", [entry("No", math.log(0.6), top)]), AnswerSet.judge())
    assert judged.answer == "no"
    assert judged.label_probabilities == pytest.approx({"yes": 1 / 3, "no": 2 / 3})
    top = [("B", math.log(0.5)), ("A", math.log(0.25)), (" B", math.log(0.125)), ("E", math.log(0.0625))]
    chosen = measure(chat("B.", [entry("B", math.log(0.5), top), entry(".", 0.0)]), AnswerSet.choose(4))
    assert chosen.label_probabilities is not None
    assert list(chosen.label_probabilities) == ["A", "B", "C", "D"]
    assert sum(chosen.label_probabilities.values()) == pytest.approx(1)
    assert chosen.label_probabilities["B"] == pytest.approx(0.625 / 0.875)
    assert chosen.label_probabilities["C"] == 0.0


def test_the_strong_role_has_an_answer_and_no_confidence() -> None:
    measured = measure(spelled("d"), ANSWERS, role="strong")
    assert (measured.answer, measured.status) == ("d", "ok")
    assert set(measured.signals.values()) == {None}
    assert measured.in_answer == (True,)


def test_exact_zeros_are_flagged_where_the_labels_part() -> None:
    def flag(*values: float) -> bool | None:
        pieces = ["a", " ", "b"] if len(values) == 3 else ["d"]
        return measure(chat("".join(pieces), [*map(entry, pieces, values)]), ANSWERS).exact_zero

    assert flag(0.0) is True
    assert flag(-0.0) is True
    assert flag(-1e-9) is False
    assert flag(0.0, 0.0, -0.1) is False, "the labels share the first tokens"
    assert flag(-0.1, -0.1, 0.0) is True
    assert measure(chat("d", None), ANSWERS).exact_zero is None
    early = AnswerSet.classify(["personal", "work"])
    assert measure(chat("personal", [entry("per", 0.0), entry("sonal", -0.1)]), early).exact_zero is True
    assert measure(chat("personal", [entry("per", -0.1), entry("sonal", 0.0)]), early).exact_zero is False


def test_a_reply_of_many_tokens_is_long_and_measured_on_the_label_alone() -> None:
    long = spelled("<think>", *["hm "] * 20, "</think>", "d")
    assert measure(long, ANSWERS).long_answer
    assert measure(long, ANSWERS).signals["label_sequence"] == pytest.approx(math.exp(-0.1))
    assert not measure(spelled("d"), ANSWERS).long_answer
    assert measure(chat("d", None, usage={"completion_tokens": 300}), ANSWERS).long_answer


def test_the_learned_signal_is_its_logistic_formula() -> None:
    body = chat("d", [entry("d", -0.25, [("d", -0.25), ("x", -2.0)])])
    plain = measure(body, ANSWERS).signals
    assert plain["first_token"] is not None
    assert plain["entropy"] is not None
    x = np.array([scipy.special.logit(plain["first_token"]), plain["entropy"], 1.0])
    z = 0.3 + np.dot(MODEL["coef"], (x - MODEL["mean"]) / MODEL["scale"])
    assert value(body, "learned", learned=MODEL) == pytest.approx(scipy.special.expit(z), rel=1e-12)
    without = chat("d", [entry("d", -0.25)])
    assert measure(without, ANSWERS, learned=MODEL).signals["learned"] is None
    assert measure(without, ANSWERS, learned=MODEL).reasons["learned"]


def test_the_learned_signal_reads_the_lengths_of_the_answer_and_of_the_whole_reply() -> None:
    model = {
        "features": ["answer_tokens", "log_reply_tokens"],
        "mean": [1.5, 1.0],
        "scale": [0.5, 2.0],
        "coef": [0.7, -0.9],
        "intercept": 0.2,
    }
    body = chat("**a b**", [entry("**", -1.0), entry("a", -0.5), entry(" b", -0.25), entry("**", -3.0)])
    z = 0.2 + 0.7 * (2 - 1.5) / 0.5 - 0.9 * (np.log(4) - 1.0) / 2.0
    assert value(body, "learned", learned=model) == pytest.approx(scipy.special.expit(z), rel=1e-12)


SEGMENTS = {"de": 0.75, "7": -0.5, "(none)": 0.25, "rare": 0.0}


@pytest.mark.parametrize(
    ("told", "known_as"), [("de", "de"), (7, "7"), ("7", "7"), ("", "(none)"), ("  ", "(none)"), ("rare", "rare")]
)
def test_a_segment_adds_its_number(told: object, known_as: str) -> None:
    body = chat("d", [entry("d", -0.25, [("d", -0.25), ("x", -2.0)])])
    plain, found = (
        value(body, "learned", learned=MODEL),
        value(body, "learned", learned=MODEL | {"segments": SEGMENTS}, segment=told),
    )
    assert scipy.special.logit(found) - scipy.special.logit(plain) == pytest.approx(SEGMENTS[known_as], abs=1e-9)


@pytest.mark.parametrize("told", [None, "DE", "de ", "fr", True, 7.0, ["de"], {}, "\ud83d"])
def test_a_segment_that_is_not_told_or_that_no_fit_row_had_gives_no_confidence(told: object) -> None:
    body = chat("d", [entry("d", -0.25, [("d", -0.25), ("x", -2.0)])])
    measured = measure(body, ANSWERS, learned=MODEL | {"segments": SEGMENTS}, segment=told)
    assert (measured.status, measured.signals["learned"]) == ("ok", None)
    assert "segment" in measured.reasons["learned"]


@given(st.floats(-1e300, 1e300), st.floats(0, 1), st.floats(-1e6, 1e6))
def test_the_learned_signal_never_leaves_the_unit_interval(intercept: float, first: float, coef: float) -> None:
    model = {"features": ["first_token"], "mean": [0.5], "scale": [1e-3], "coef": [coef], "intercept": intercept}
    check_learned(model)
    found = learned_confidence(model, features({"first_token": first}, 1))
    assert found is not None
    assert 0.0 <= found <= 1.0
    z = intercept + coef * (first - 0.5) / 1e-3
    assert found == pytest.approx(float(scipy.special.expit(z)), rel=1e-6, abs=1e-300)


def test_features_are_defined_for_every_name_and_null_where_their_signal_is() -> None:
    row = features({"first_token": 1.0, "mean": 0.0, "margin": None}, 3, 20)
    assert tuple(row) == FEATURES
    assert row["logit_first_token"] == pytest.approx(math.log((1 - 1e-6) / 1e-6))
    assert row["logit_mean"] == pytest.approx(-math.log((1 - 1e-6) / 1e-6))
    assert row["margin"] is row["logit_margin"] is row["entropy"] is None
    assert (row["answer_tokens"], row["log_reply_tokens"]) == (3.0, pytest.approx(np.log(20)))
    assert features({}, None)["answer_tokens"] is features({}, 0, 0)["log_reply_tokens"] is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"coef": [1.0]}, "coef"),
        ({"features": ["nope", "entropy", "mean"]}, "nope"),
        ({"scale": [1.0, 0.0, 1.0]}, "scale"),
        ({"intercept": float("nan")}, "finite"),
        ({"intercept": None}, "finite"),
        ({"mean": ["1", 1.0, 1.0]}, "finite"),
        ({"segments": ["de"]}, "segments that are not a mapping"),
        ({"segments": {"de": float("inf")}}, "finite"),
    ],
)
def test_numbers_that_are_no_model_are_refused(change: dict[str, Any], why: str) -> None:
    check_learned(MODEL)
    with pytest.raises(ValueError, match=why):
        check_learned(MODEL | change)
    with pytest.raises(ValueError, match="lacks intercept"):
        check_learned({name: part for name, part in MODEL.items() if name != "intercept"})


def test_token_rows_give_back_every_byte() -> None:
    emoji = "😊".encode()
    entries = [
        entry(emoji[:2], -0.1, []),
        entry(emoji[2:], None),
        entry("d", -0.5, [("d", -0.5)]),
    ]
    entries.append(
        {
            "token": "\ud800",
            "bytes": None,
            "logprob": float("-inf"),
            "top_logprobs": [{"token": "\udfff", "logprob": -1.0}],
        }
    )
    body = chat("😊d", entries)
    reply = parse(body)
    rows = token_rows(measure(reply, AnswerSet.classify(["😊d", "x"])))
    positions, tokens, data, logprobs, inside, alternatives = zip(*rows, strict=True)
    assert positions == (0, 1, 2, 3)
    assert b"".join(piece or b"" for piece in data) == "😊d".encode()
    assert logprobs == (-0.1, None, -0.5, float("-inf"))
    assert inside == (True, True, True, False)
    assert (tokens[3], data[3]) == ("\ud800", None)
    assert alternatives[2] == (("d", b"d", -0.5),)
    assert alternatives[3] == (("\udfff", None, -1.0),)


numbers = st.one_of(
    st.floats(),
    st.none(),
    st.integers(-(10**5), 3),
    st.sampled_from([0.0, -0.0, -9999.0, 1e-7, 0.7, "x", True, 10**400, -3.4e38]),
)
words = st.sampled_from(
    [
        "a",
        " a",
        "A",
        " b",
        "b",
        " c",
        "d",
        " d",
        "D.",
        '"d',
        '"',
        "",
        "\ufffd",
        "<|end|>",
        "\n",
        "a b",
        "é",
        "<think>",
        "</think>",
    ]
)


@st.composite
def wild(draw: st.DrawFn) -> dict[str, Any]:
    """Tokens, values and text that need not have to do with each other."""
    entries = []
    for word in draw(st.lists(words, max_size=5)):
        top = draw(st.none() | st.lists(st.tuples(words, numbers), max_size=4))
        change = draw(
            st.sampled_from([{}, {}, {"bytes": None}, {"bytes": [300]}, {"top_logprobs": None}, {"token": None}])
        )
        entries.append(entry(word, draw(numbers), top) | change)
    joined = "".join(made["token"] or "" for made in entries)
    text = draw(st.sampled_from([joined, joined.strip(), "d", " d\n", "a b", None, "", "{}"]))
    finish = draw(st.sampled_from(["stop", "length", "content_filter", None, 3]))
    if draw(st.booleans()):
        return chat(text, draw(st.sampled_from([entries, entries, entries, None, 3, {}])), finish=finish)
    tops = [{top["token"]: top["logprob"] for top in made.get("top_logprobs") or ()} for made in entries]
    values = [made["logprob"] for made in entries]
    return legacy(
        str(text),
        [made["token"] for made in entries],
        draw(st.sampled_from([values, values, values[1:]])),
        tops,
        finish=finish,
    )


FORMATS = [
    ("", ""),
    (" ", ""),
    ('"', '"'),
    ("**", "**"),
    ("", ".\n"),
    ('{"label": "', '"}'),
    ("<think>hm</think>\n", ""),
]


@st.composite
def likely(draw: st.DrawFn) -> dict[str, Any]:
    """A label in some format, cut into tokens that say what else could have stood there; here and there a value is odd."""
    label, (before, after) = draw(st.sampled_from(ANSWERS.labels)), draw(st.sampled_from(FORMATS))
    text = before + label + after
    cuts = {len(before), len(text), *draw(st.lists(st.integers(1, len(text)), max_size=3))}
    pieces = [text[a:b] for a, b in pairwise(sorted(cuts | {0})) if a < b]
    entries = []
    for piece in [*pieces, *draw(st.sampled_from([[], [""], ["<|end|>"], ["\n", ""]]))]:
        others = draw(st.lists(words.filter(lambda word, chosen=piece: word != chosen), max_size=3, unique=True))
        weights = draw(st.lists(st.floats(0.01, 1), min_size=len(others) + 1, max_size=len(others) + 1))
        scale = draw(st.sampled_from([1.0, 1.0, 0.7, 1.2])) / sum(weights)
        logprobs = [math.log(min(1.0, weight * scale)) for weight in weights]
        entries.append(entry(piece, logprobs[0], list(zip([piece, *others], logprobs, strict=True))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        spoiled = draw(st.sampled_from(entries))
        spoiled = draw(st.sampled_from([spoiled, *spoiled["top_logprobs"]]))
        spoiled["logprob"] = draw(numbers)
    return chat(draw(st.sampled_from([text, text, text.strip()])), entries)


completions = st.sampled_from([True, True, True, False]).flatmap(lambda whole: likely() if whole else wild())


@settings(max_examples=500, deadline=None)
@given(completions, st.sampled_from(["cheap", "cheap", "strong"]))
def test_no_reply_has_a_confidence_outside_the_unit_interval_or_without_the_status_ok(
    body: dict[str, Any], role: str
) -> None:
    measured = measure(body, ANSWERS, role=role, learned=MODEL)
    assert measured.status in STATUSES
    assert (measured.answer is not None) == (measured.status in {"ok", "no_logprobs", "unaligned"})
    assert measured.answer is None or measured.answer in ANSWERS.labels
    assert list(measured.signals) == list(SIGNALS)
    for name, found in measured.signals.items():
        if found is None:
            assert measured.reasons[name]
        else:
            assert type(found) is float
            assert 0.0 <= found <= 1.0, (name, found)
            assert measured.status == "ok"
            assert role == "cheap"
    for probability in (measured.label_probabilities or {}).values():
        assert 0.0 <= probability <= 1.0
    if measured.label_probabilities is not None:
        assert sum(measured.label_probabilities.values()) == pytest.approx(1.0)
    if measured.status == "ok" and role == "cheap":
        assert measured.signals["first_token"] is not None
        tokens = measured.reply.tokens or ()
        chosen = [token.logprob for token, inside in zip(tokens, measured.in_answer, strict=True) if inside]
        assert chosen
        assert all(logprob is not None and -100 < logprob <= 1e-6 for logprob in chosen), "null never became a number"
    assert len(token_rows(measured)) == len(measured.reply.tokens or ())
    assert repr(measure(body, ANSWERS, role=role, learned=MODEL)) == repr(measured), "deterministic, NaN aside"


@pytest.mark.slow
def test_the_generated_replies_reach_every_kind_of_case() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=600, deadline=None, derandomize=True, database=None)
    @given(completions)
    def count(body: dict[str, Any]) -> None:
        measured = measure(body, ANSWERS, learned=MODEL)
        seen.update([measured.status, *(name for name, found in measured.signals.items() if found is not None)])
        seen["shared"] += measured.status == "ok" and sum(measured.in_answer) > 1
        seen["nothing unseen"] += measured.unseen_mass == 0.0

    count()
    assert seen["ok"] >= 160, seen
    assert min(seen["label_probability"], seen["learned"]) >= 70, seen
    assert min(seen["no_logprobs"], seen["unaligned"], seen["out_of_set"]) >= 3, seen
    assert min(seen["shared"], seen["nothing unseen"]) >= 8, seen
