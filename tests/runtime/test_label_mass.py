"""Label masses against exact enumeration of a toy token model, and against hand-made trees."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.bodies import chat, entry

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import Measurement, measure


def probabilities(measured: Measurement) -> dict[str, float]:
    assert measured.status == "ok", measured.detail
    assert measured.label_probabilities is not None, measured.reasons
    return measured.label_probabilities


def reply(*positions: list[tuple[str, float]], **changes: Any) -> dict[str, Any]:
    """Each position is a list of (token, probability), the emitted one first."""
    made = [entry(top[0][0], math.log(top[0][1]), [(token, math.log(p)) for token, p in top]) for top in positions]
    return chat("".join(top[0][0] for top in positions), made, **changes)


def test_mass_is_summed_over_spellings_and_renormalised_over_labels() -> None:
    answers = AnswerSet.classify(["work", "spam", "personal"])
    body = reply([("work", 0.3), (" Work", 0.2), ("WO", 0.1), ("spam", 0.15), ("pers", 0.05), ("The", 0.1)])
    measured = measure(body, answers)
    assert probabilities(measured) == pytest.approx({"work": 0.75, "spam": 0.1875, "personal": 0.0625})
    assert measured.captured_mass == pytest.approx(0.8)
    assert measured.unseen_mass == pytest.approx(0.1)
    assert measured.bounds("work") == pytest.approx((0.6, 0.7))


def test_a_label_inside_another_word_gets_no_mass() -> None:
    answers = AnswerSet.classify(["personal", "work"])
    body = reply([("work", 0.4), ("impersonal", 0.3), ("network", 0.1), ("personally", 0.1), ("homework", 0.05)])
    measured = measure(body, answers)
    assert measured.captured_mass == pytest.approx(0.4)
    assert probabilities(measured) == {"work": 1.0, "personal": 0.0}


def test_quotes_and_emphasis_at_either_end_of_a_token_are_spellings_too() -> None:
    answers = AnswerSet.classify(["work", "spam"])
    body = reply([("work", 0.4), ('"spam', 0.2), ("**work", 0.1), ("spam.", 0.1), ("work\n", 0.1), ('"', 0.05)])
    assert probabilities(measure(body, answers)) == pytest.approx({"work": 6 / 9, "spam": 3 / 9})


def test_labels_that_share_a_token_are_parted_at_the_next_one() -> None:
    answers = AnswerSet.classify(["not spam", "not urgent", "spam"])
    body = reply(
        [("not", 0.6), (" Not", 0.1), ("spam", 0.2), ("x", 0.1)],
        [(" spam", 0.5), (" urgent", 0.25), (" URG", 0.05), (" sure", 0.2)],
    )
    measured = measure(body, answers)
    expected = {"not spam": 0.7 * 0.5, "not urgent": 0.7 * 0.3, "spam": 0.2}
    total = sum(expected.values())
    assert probabilities(measured) == pytest.approx({label: mass / total for label, mass in expected.items()})
    assert measured.captured_mass == pytest.approx(total)
    assert measured.exact_zero is False


def test_a_shorter_label_is_ended_by_what_follows_it() -> None:
    answers = AnswerSet.classify(["work", "workshop", "spam"])
    ended = reply(
        [("work", 0.8), ("spam", 0.2)],
        [("<|im_end|>", 0.5), ("\n", 0.1), (".", 0.05), ("shop", 0.25), ("ing", 0.1)],
    )
    ended["choices"][0]["message"]["content"] = "work"
    measured = measure(ended, answers)
    expected = {"work": 0.8 * 0.65, "workshop": 0.8 * 0.25, "spam": 0.2}
    assert measured.captured_mass == pytest.approx(sum(expected.values()))
    assert probabilities(measured) == pytest.approx({k: v / sum(expected.values()) for k, v in expected.items()})
    not_returned = reply([("work", 0.8), ("spam", 0.2)])
    assert probabilities(measure(not_returned, answers)) == pytest.approx({"work": 0.8, "workshop": 0.0, "spam": 0.2})
    sentinel = reply([("work", 0.8), ("spam", 0.2)])
    sentinel["choices"][0]["logprobs"]["content"].append(entry("", -9999.0))
    assert probabilities(measure(sentinel, answers)) == pytest.approx({"work": 0.8, "workshop": 0.0, "spam": 0.2})
    longer = reply([("work", 0.8), ("spam", 0.2)], [("shop", 0.3), ("", 0.6), ("s", 0.1)])
    wanted = {"work": 0.48, "workshop": 0.8 * 0.4, "spam": 0.2}  # "s" begins workshop and no other
    assert probabilities(measure(longer, answers)) == pytest.approx(wanted)


def test_mass_on_a_shared_beginning_that_the_answer_comes_to_later_is_followed() -> None:
    """The emitted "per|son|al" and the alternative "person" meet after two tokens."""
    answers = AnswerSet.classify(["personal", "personnel", "permit"])
    body = reply(
        [("per", 0.5), ("person", 0.3), ("perm", 0.2)],
        [("son", 0.6), ("mit", 0.4)],
        [("al", 0.7), ("nel", 0.3)],
    )
    person = 0.5 * 0.6 + 0.3
    assert probabilities(measure(body, answers)) == pytest.approx(
        {"personal": person * 0.7, "personnel": person * 0.3, "permit": 0.5 * 0.4 + 0.2}
    )


def test_a_shared_beginning_that_was_not_followed_stays_undecided() -> None:
    answers = AnswerSet.classify(["spam", "not spam", "not urgent"])
    measured = measure(reply([("spam", 0.5), ("not", 0.4), ("x", 0.1)]), answers)
    assert probabilities(measured) == {"spam": 1.0, "not spam": 0.0, "not urgent": 0.0}
    assert measured.captured_mass == pytest.approx(0.5)
    assert measured.bounds("not spam") == pytest.approx((0.0, 0.4))


def test_what_was_not_returned_is_weighed_by_the_path_to_it() -> None:
    answers = AnswerSet.classify(["spam", "not spam", "not urgent"])
    measured = measure(reply([("not", 0.5), ("spam", 0.4)], [(" spam", 0.6), (" urgent", 0.2)]), answers)
    assert measured.captured_mass == pytest.approx(0.4 + 0.5 * 0.8)
    assert measured.unseen_mass == pytest.approx(0.1 + 0.5 * 0.2)


def test_the_emitted_token_counts_although_it_is_not_listed_and_repeats_count_once() -> None:
    answers = AnswerSet.classify(["a", "b"])
    listed = [("b", math.log(0.5)), ("b", math.log(0.5)), ("x", math.log(0.1))]
    body = chat("a", [entry("a", math.log(0.25), listed)])
    measured = measure(body, answers)
    assert probabilities(measured) == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert measured.captured_mass == pytest.approx(0.75)


def test_sentinels_among_the_alternatives_mean_unlikely_and_unknown_ones_mean_unknown() -> None:
    answers = AnswerSet.classify(["a", "b"])
    for sentinel in (-9999.0, float("-inf"), -100.0, -3.4e38):
        body = chat("a", [entry("a", -0.5, [("a", -0.5), ("b", sentinel)])])
        measured = measure(body, answers)
        assert probabilities(measured) == {"a": 1.0, "b": 0.0}
        assert measured.signals["margin"] == 1.0
    for unknown in (None, float("nan"), 0.5, "x"):
        body = chat("a", [entry("a", -0.5, [("a", -0.5), ("b", unknown)])])
        measured = measure(body, answers)
        assert measured.status == "ok", "the chosen token is fine"
        for name in ("label_probability", "margin", "entropy"):
            assert measured.signals[name] is None
            assert measured.reasons[name]


def test_a_later_shared_token_needs_alternatives_unless_it_is_certain() -> None:
    answers = AnswerSet.classify(["not spam", "not urgent"])
    first = entry("not", -0.1, [("not", -0.1), ("x", -3.0)])
    alone = chat("not spam", [first, entry(" spam", -0.5, [(" spam", -0.5)])])
    assert measure(alone, answers).signals["label_probability"] is None
    certain = chat("not spam", [first, entry(" spam", 0.0, [(" spam", 0.0)])])
    assert measure(certain, answers).signals["label_probability"] == 1.0


def test_tokens_that_end_inside_a_character_are_followed() -> None:
    answers = AnswerSet.classify(["工作", "工人", "其他"])
    work, people = "工作".encode(), "工人".encode()
    top = [entry(work[:2], math.log(0.75), None), entry("其", math.log(0.25), None)]
    then = [entry(work[2:], math.log(0.8), None), entry(people[2:5], math.log(0.2), None)]
    body = chat(
        "工作",
        [
            entry(work[:2], math.log(0.75)) | {"top_logprobs": top},
            entry(work[2:], math.log(0.8)) | {"top_logprobs": then},
        ],
    )
    body["choices"][0]["logprobs"]["content"].append(entry(b""))
    measured = measure(body, answers)
    assert probabilities(measured) == pytest.approx({"工作": 0.6, "工人": 0.15, "其他": 0.25})


def ended(
    emitted: str,
    other: str,
    terminator: str,
    longer: str,
    *,
    before: str = "",
    rest: Sequence[str] = (),
    content: str = "",
) -> dict[str, Any]:
    """A label (0.9, the other 0.1) that a terminator follows (0.95; what goes on to a longer label 0.05)."""
    opening = [[(before, 1.0)]] if before else []
    tail = [[(piece, 1.0)] for piece in rest]
    body = reply(*opening, [(emitted, 0.9), (other, 0.1)], [(terminator, 0.95), (longer, 0.05)], *tail)
    body["choices"][0]["message"]["content"] = content or emitted
    return body


@pytest.mark.parametrize(
    ("before", "terminator", "rest", "content"),
    [
        ('{"label": "', '",', [' "why": "x"}'], '{"label": "work", "why": "x"}'),
        ('{"label":"', '","', ['why":"x"}'], '{"label":"work","why":"x"}'),
        ('{"label": "', '"}', [""], '{"label": "work"}'),
        ("", "\nQ: next", [], "work"),
        ("", "###", [], "work"),
        ("", "\n\nNote", [], "work"),
        ("", "[EOS]", [], "work"),
        ("", "<EOS_TOKEN>", [], "work"),
        ("", "</answer>", [], "work"),
        ("", "<|im_end|>\n", [], "work"),
        ("", ".", ["<|im_end|>"], "work."),
    ],
)
def test_whatever_follows_a_label_ends_it(before: str, terminator: str, rest: list[str], content: str) -> None:
    answers = AnswerSet.classify(["work", "workshop", "spam"])
    measured = measure(ended("work", "spam", terminator, "shop", before=before, rest=rest, content=content), answers)
    assert probabilities(measured) == pytest.approx({"work": 0.855, "workshop": 0.045, "spam": 0.1})
    assert measured.signals["label_probability"] == pytest.approx(0.855)
    assert measured.captured_mass == pytest.approx(1.0)


def test_a_number_in_json_is_ended_by_the_comma() -> None:
    answers = AnswerSet.classify([str(number) for number in range(1, 12)])
    body = ended("1", "2", ",", "1", before='{"label": ', rest=[' "why": "x"}'], content='{"label": 1, "why": "x"}')
    found = probabilities(measure(body, answers))
    assert {label: p for label, p in found.items() if p} == pytest.approx({"1": 0.855, "11": 0.045, "2": 0.1})


@pytest.mark.parametrize(
    ("labels", "terminator", "longer", "rest"),
    [
        (["A", "A.1", "spam"], ".", ".1", []),
        (["A", "A.1", "spam"], ".", ".1", [""]),
        (["work", "work life", "spam"], " ", " life", [""]),
        (["work", "work life", "spam"], " ", " life", ["<|im_end|>"]),
    ],
)
def test_what_may_go_on_to_a_longer_label_ends_the_shorter_one_where_nothing_follows(
    labels: list[str], terminator: str, longer: str, rest: list[str]
) -> None:
    body = ended(labels[0], "spam", terminator, longer, rest=rest, content=labels[0] + terminator)
    found = probabilities(measure(body, AnswerSet.classify(labels)))
    assert found == pytest.approx({labels[0]: 0.855, labels[1]: 0.045, "spam": 0.1})


@pytest.mark.parametrize("form", ['"', " ", "<think>"])
def test_format_alone_leaves_every_label_open(form: str) -> None:
    answers = AnswerSet.classify(["work", "workshop", "spam"])
    measured = measure(reply([("spam", 0.6), (form, 0.3), ("work", 0.05)]), answers)
    assert measured.captured_mass == pytest.approx(0.6)
    assert measured.unseen_mass == pytest.approx(0.3 + 0.05 + 0.05), "format, a shared beginning, what was not returned"
    assert measured.bounds("workshop") == pytest.approx((0.0, 0.4))


END_TOKENS = ["<|end|>", "", '",', "\n\nNext", "###", ".", " ", "</answer>"]
"""What may follow a label, a stop word included: the reply's text does not show it."""


class ToyModel:
    """A language model over pieces of the labels: what it says next depends on the folded text so far alone.

    As `label_mass` takes for granted, it never leaves a label that it has begun once no other label begins alike. It ends a
    label by a token of its own, or by white space and that token.
    """

    def __init__(self, labels: list[str], seed: int) -> None:
        self.labels = labels
        self.seed = seed
        # a space that ends one label must not be the space inside another: then it would say both
        ends = [end for end in END_TOKENS if end.strip() or not any(" " in label for label in labels)]
        self.end = ends[seed % len(ends)]
        self.known: dict[str, dict[str, float]] = {}

    def left(self, said: str) -> list[str]:
        return [label for label in self.labels if label.startswith(said) or label == said.rstrip()]

    def next(self, said: str) -> list[tuple[str, float]]:
        draw = random.Random(f"{self.seed}/{said}")
        left = self.left(said)
        pieces = {label[len(said) : len(said) + n] for label in left for n in (1, 2, 4, 9)} - {""}
        options = sorted(pieces)
        if not said:
            options += [" " + piece for piece in options] + [piece.upper() for piece in options] + ["zzz", "The", '"']
        if said.rstrip() in left:
            options += [self.end]
        if len(left) > 1 and said:
            options += ["?!", "ing"]
        options = [option for option in dict.fromkeys(options) if said or option.strip(' "')]
        weights = [draw.random() ** 3 + 1e-3 for _ in options]
        total = sum(weights)
        return [(option, weight / total) for option, weight in zip(options, weights, strict=True)]

    def truth(self, said: str = "") -> dict[str, float]:
        """Exact probability of every label, by enumeration of all token sequences."""
        if said not in self.known:
            self.known[said] = self._truth(said)
        return self.known[said]

    def _truth(self, said: str) -> dict[str, float]:
        masses = dict.fromkeys(self.labels, 0.0)
        left = self.left(said)
        if said and len(left) == 1:
            masses[left[0]] = 1.0
            return masses
        for token, p in self.next(said):
            if said.rstrip() in left and token == self.end:
                masses[said.rstrip()] += p
                continue
            following = (said + token).lstrip().casefold()
            if self.left(following):
                for label, mass in self.truth(following).items():
                    masses[label] += p * mass
        return masses

    def sample(self, seed: int, k: int | None) -> dict[str, Any] | None:
        """A completion with the k likeliest alternatives (all when None); None when it leaves the labels."""
        draw, said, entries, text = random.Random(seed), "", [], ""
        for _ in range(40):
            options = self.next(said)
            token, p = draw.choices(options, [weight for _, weight in options])[0]
            top = sorted(options, key=lambda option: -option[1])[:k]
            entries.append(entry(token, math.log(p), [(t, math.log(q)) for t, q in top]))
            if said.rstrip() in self.labels and token == self.end:
                break
            text += token
            said = (said + token).lstrip().casefold()
            if not self.left(said):
                return None
        return chat(text, entries)


LABEL_SETS = [
    ["work", "spam", "personal"],
    ["work", "workshop", "spam"],
    ["aa", "ab", "ba"],
    ["a", "aa", "aaa", "b"],
    ["not spam", "not urgent", "spam", "other"],
    ["billing: card", "billing: cash", "billing: card fee", "access"],
    ["1", "10", "11", "2"],
    ["new", "new york", "york"],
]


@settings(max_examples=1_000, deadline=None)
@given(
    labels=st.sampled_from(LABEL_SETS),
    model=st.integers(0, 10**6),
    draw=st.integers(0, 10**6),
    k=st.sampled_from([None, None, 2, 3, 5]),
)
def test_bounds_hold_the_exact_probability_of_every_label(
    labels: list[str], model: int, draw: int, k: int | None
) -> None:
    toy = ToyModel(labels, model)
    body = toy.sample(draw, k)
    if body is None:
        return
    measured = measure(body, AnswerSet.classify(labels))
    if measured.label_probabilities is None:
        assert k is not None
        return
    truth = toy.truth()
    for label, exact in truth.items():
        bounds = measured.bounds(label)
        assert bounds is not None
        assert bounds[0] - 1e-9 <= exact <= bounds[1] + 1e-9
    if measured.unseen_mass is not None and measured.unseen_mass < 1e-9:
        total = sum(truth.values())
        shares = {label: exact / total for label, exact in truth.items()}
        assert measured.label_probabilities == pytest.approx(shares, abs=1e-9)


def test_the_toy_model_reaches_every_kind_of_case() -> None:
    exact = undecided = shared = 0
    for seed in range(60):
        body = ToyModel(LABEL_SETS[seed % len(LABEL_SETS)], seed).sample(seed, None)
        if body is None:
            continue
        measured = measure(body, AnswerSet.classify(LABEL_SETS[seed % len(LABEL_SETS)]))
        assert measured.unseen_mass is not None
        exact += measured.unseen_mass < 1e-9
        undecided += measured.unseen_mass > 1e-6
        shared += sum(measured.in_answer) > 1
    assert min(exact, undecided, shared) >= 5
