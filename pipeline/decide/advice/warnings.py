"""Warnings beside a recommendation: what weakens it, how gravely, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pipeline.config.vocabulary import SPLITS
from pipeline.decide.advice.holdout_check import Outcome
from pipeline.decide.advice.number_text import counted, ordinal, percent, points, shortened, signed, usd
from pipeline.decide.advice.unreadable import Unreadable
from pipeline.decide.curves.at_threshold import Estimate
from pipeline.decide.predictions import Rows
from pipeline.decide.testing.certificate import Certificate

SMALL_SPLIT = 100
FEW_ROWS = 30
"""With fewer rows, a worse strong model is not reported."""
HEAVY_TIE = 0.2
MANY_UNREADABLE = 0.01
MANY_NULLS = 0.05
UNINFORMATIVE_AUROC = 0.55
CHECK_DATA = ("one_class", "no_rows", "no_confidence", "strong_worse", "uninformative", "exact_zeros")
"""Grave warnings about the rows or their labels rather than their number."""


@dataclass(frozen=True)
class ResultWarning:
    """`gravity` 3: read before using the result; 2: may change it; 1: good to know."""

    code: str
    gravity: int
    text: str


def speaks_of_data(code: str, gravity: int) -> bool:
    """Whether a warning means that the data must be looked at before any threshold means something."""
    return gravity >= 3 and code in CHECK_DATA


def row_warnings(
    rows: Rows,
    certificate: Certificate,
    expected: dict[str, Estimate],
    *,
    human: bool,
    needed: int | None,
    reweighted: bool,
    partly: bool,
) -> Iterator[ResultWarning]:
    """Warnings about rows and promise. `needed`: rows (or groups) without which no candidate can pass; None when unknown;
    `partly`: strong answers were got for a part of the rows only."""
    if partly:
        yield _of_a_part(rows, expected)
    yield from _of_size(rows, certificate, needed)
    yield from _of_copies(rows.of("certify"))
    yield from _of_models(rows.of("certify"), human, paired=certificate.target.get("kind") != "accepted_accuracy")
    yield from _of_confidence(rows.of("certify"))
    yield from _of_costs(rows, expected, human)
    yield from _of_sampling(rows, certificate)
    yield from _of_the_promise(certificate, reweighted)


def _of_a_part(rows: Rows, expected: dict[str, Estimate]) -> ResultWarning:
    """Both models alone are of fewer rows than the cascade."""
    cheap, strong = expected["cheap_accuracy"], expected["strong_accuracy"]
    unlabeled = np.isnan(rows.cheap_correct).sum() > np.isnan(rows.strong_correct).sum()
    which = "cheap" if unlabeled else "strong"
    remedy = "Label the rest, or leave it out" if unlabeled else "Get strong answers for a random part, or for all"
    return ResultWarning(
        f"{which}_partly",
        2,
        f"Only {counted(strong.n, 'row')} of these have an answer of the {which} model that can be graded. The accuracies of both models "
        f"alone are of these rows ({percent(cheap.value)} cheap, {percent(strong.value)} strong), those of the cascade of all: do not "
        f"compare them, since the rows without may be easier or harder. {remedy}.",
    )


def of_the_outcome(found: Outcome | None) -> Iterator[ResultWarning]:
    """A certified threshold whose test rows lie beyond the promise: a word where chance may explain it, a warning where not."""
    if found is not None and found.broken:
        yield ResultWarning("test_below_promise", 1 if found.by_chance else 2, found.words())


def gravest_first(*parts: Iterable[ResultWarning]) -> tuple[ResultWarning, ...]:
    """All warnings, gravest first, else in the order given."""
    return tuple(sorted(chain(*parts), key=lambda w: -w.gravity))


def of_unreadable(
    found: Unreadable, *, beyond: bool, paired: bool, both_ends: Mapping[str, Mapping[str, Estimate | None]] | None
) -> Iterator[ResultWarning]:
    """Strong replies that are not a whole answer: how many, why, and the remedy. `beyond`: more than the config allows;
    `both_ends`: the figures they blur, by name, as if all of them were wrong and as if all were right."""
    if found.n == 0:
        return
    counted_as = (
        "Figures count them as wrong answers of the strong model, the promise as unknown and against it."
        if paired
        else "They count as wrong answers of the strong model."
    )
    gravity = 3 if beyond or found.share >= MANY_UNREADABLE else 2
    yield ResultWarning(
        "unreadable_strong",
        gravity,
        " ".join(p for p in (f"{found.words()}.", found.remedy(), counted_as, _between(both_ends or {})) if p),
    )


def _between(both_ends: Mapping[str, Mapping[str, Estimate | None]]) -> str:
    """The two ends of what was not read, of the difference and of the strong model's accuracy."""
    told = {name: [ends[end] for end in ("all_wrong", "all_right")] for name, ends in both_ends.items()}
    strong = [e.value for e in told.get("strong_accuracy", ()) if e is not None and e.value is not None]
    if len(strong) < 2:
        return ""
    text = f"Were all of them wrong or all right, the strong model would be right in {percent(strong[0])} or {percent(strong[1])}"
    differences = [e for e in told.get("difference", ()) if e is not None and e.value is not None]
    if len(differences) == 2:
        ends = " or ".join(f"{signed(100 * (e.value or 0.0), 1)}{_bounds(e)}" for e in differences)
        text += f", and the cascade minus it {ends} points"
    return f"{text}."


def _bounds(estimate: Estimate) -> str:
    if estimate.lower is None or estimate.upper is None:
        return ""
    return f" [{signed(100 * estimate.lower, 1)}, {signed(100 * estimate.upper, 1)}]"


def _of_size(rows: Rows, certificate: Certificate, needed: int | None) -> Iterator[ResultWarning]:
    fit, held, test = (len(rows.of(split)) for split in SPLITS)
    if held == 0:
        yield ResultWarning("no_rows", 3, "No row was left to certify a threshold, so there is nothing to promise.")
    elif needed is not None and certificate.n < needed:
        yield ResultWarning(
            "too_few_rows",
            3,
            f"The certify split has {counted(certificate.n, certificate.unit[:-1])}; this target needs at least {needed:,} even without a single error.",
        )
    if 0 < fit < SMALL_SPLIT:
        yield ResultWarning(
            "small_fit",
            2,
            f"Only {counted(fit, 'row')} fixed the signal and the calibration; both are coarse.",
        )
    if 0 < test < SMALL_SPLIT:
        yield ResultWarning("small_test", 1, f"The figures rest on {counted(test, 'test row')}; mind their intervals.")


def _of_copies(held: Rows) -> Iterator[ResultWarning]:
    """Rows that look like copies under other names: the counts of all confidences have a common divisor, which chance hardly makes."""
    groups = held.group[held.group.known]
    _, times = np.unique(held.confidence[~np.isnan(held.confidence)], return_counts=True)
    copies = int(np.gcd.reduce(times)) if len(times) >= FEW_ROWS else 1
    if copies > 1 and len(groups.factorized()[1]) == len(groups):
        yield ResultWarning(
            "copies",
            3,
            f"Every confidence of the certify rows occurs {copies:,} times or a multiple of that, so these seem to be {copies:,} copies of "
            f"{counted(len(held) // copies, 'row')}. A promise counts rows as independent: leave the copies out, or give each its group.",
        )


def _of_models(held: Rows, human: bool, *, paired: bool) -> Iterator[ResultWarning]:
    # a single label explains why all answers are right, so it comes first
    labels = held.label.present
    if len(labels) == 1:
        yield ResultWarning("one_class", 3, f"Every certify row has the same label, {shortened(next(iter(labels)))}.")
    known = held.cheap_correct[~np.isnan(held.cheap_correct)]
    if len(known) and len(np.unique(known)) == 1:
        which = "right" if known[0] == 1 else "wrong"
        yield ResultWarning(
            "one_class",
            3,
            f"The cheap model is {which} on every certify row; check labels and answers before believing it.",
        )
    if human:
        return
    both = ~np.isnan(held.cheap_correct) & ~np.isnan(held.strong_read)  # unreadable replies do not make a model worse
    gain = (held.strong_correct - held.cheap_correct)[both]
    if held.sampled:  # only wrong cheap answers were asked about without a coin
        proxy, every = np.nan_to_num(held.cheap_correct, nan=0.0), np.ones(len(held), dtype=bool)
        estimated = (held.stood_in(held.strong_read, proxy, every) - held.cheap_correct)[held.cheap_correct >= 0]
        gain = estimated[~np.isnan(estimated)] if (held.drawn == 1).any() else estimated[:0]
    if len(gain) >= FEW_ROWS and gain.mean() < 0:
        sure = gain.mean() + 1.64 * gain.std() / np.sqrt(len(gain)) < 0
        chance = "" if sure else ", though that may be chance"
        yield ResultWarning(
            "strong_worse",
            3 if sure else 2,
            f"The strong model is less accurate than the cheap one by {points(-round(float(gain.mean()), 3) or -round(float(gain.mean()), 5))} on the certify rows{chance}; escalating then costs money and accuracy.",
        )
    wanted = held.strong_weight > 0
    missing = float(np.isnan(held.strong_correct[wanted]).mean()) if wanted.any() else 0.0
    if missing > 0 and len(known):
        yield ResultWarning(
            "missing_strong",
            2 if missing > 0.01 and paired else 1,
            f"{percent(missing)} of the certify rows {'that were asked about ' if held.sampled else ''}have no strong answer that can be graded; "
            + ("they count against the promise." if paired else "nothing is said about the escalated ones among them."),
        )


def _of_confidence(held: Rows) -> Iterator[ResultWarning]:
    if len(held) == 0:
        return
    has = ~np.isnan(held.confidence)
    nulls = float((~has).mean())
    if nulls == 1:
        yield ResultWarning(
            "no_confidence", 3, "No certify row has a confidence, so nothing can be kept: see the statuses for why."
        )
        return
    if nulls > 0:
        yield ResultWarning(
            "null_confidence",
            2 if nulls > MANY_NULLS else 1,
            f"{percent(nulls)} of the certify rows have no confidence and escalate whatever the threshold.",
        )
    values, counts = np.unique(held.confidence[has], return_counts=True)
    top = int(counts.argmax())
    share = float(counts[top] / len(held))
    if share > HEAVY_TIE:
        yield ResultWarning(
            "ties",
            2 if share > 0.5 else 1,
            f"{percent(share)} of the certify rows share the confidence {float(values[top]):.6g}; a threshold can only keep or escalate them together.",
        )
    auroc = _auroc(held.confidence[has], held.cheap_correct[has])
    if auroc is not None and auroc < UNINFORMATIVE_AUROC:
        yield ResultWarning(
            "uninformative",
            3 if auroc < 0.5 else 2,
            f"The confidence hardly tells right answers from wrong ones (AUROC {auroc:.2f}; 0.5 is chance).",
        )


def _auroc(
    confidence: np.ndarray[tuple[int], np.dtype[np.float64]], correct: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float | None:
    right, wrong = confidence[correct == 1], np.sort(confidence[correct == 0])
    if len(right) < 10 or len(wrong) < 10:
        return None
    below = np.searchsorted(wrong, right, side="left") + np.searchsorted(wrong, right, side="right")
    return float(below.mean() / (2 * len(wrong)))


def _of_costs(rows: Rows, expected: dict[str, Estimate], human: bool) -> Iterator[ResultWarning]:
    told = rows.take(rows.split != "fit")  # fit rows need no strong answer, so its price is not missing
    told = told.take(told.strong_weight > 0) if rows.sampled else told
    unknown = float((np.isnan(told.cheap_usd) | np.isnan(told.strong_usd)).mean()) if len(told) else 0.0
    if unknown == 1:
        yield ResultWarning(
            "costs_unknown", 2, "No row's dollars are known on both sides, so nothing is said about saving."
        )
    elif unknown > 0:
        yield ResultWarning(
            "costs_unknown",
            1,
            f"The dollars of {percent(unknown)} of the rows are unknown on a side; means are over those that are known.",
        )
    mine, strong = expected["usd_per_1000"].value, expected["strong_usd_per_1000"].value
    if mine is not None and strong is not None and mine > strong:
        other = "people" if human else "the strong model"
        yield ResultWarning(
            "costs_more", 3, f"The cascade costs {usd(mine)} per 1,000 where {other} alone costs {usd(strong)}."
        )


def _of_sampling(rows: Rows, certificate: Certificate) -> Iterator[ResultWarning]:
    """How many strong answers were bought, and what each kind counts for."""
    details, told = certificate.details, rows.take(rows.split != "fit")
    if "q" not in details or not rows.sampled:
        return
    bought = int((~np.isnan(told.strong_correct) | told.strong_status.known).sum())
    weight = details["win_weight"]
    if certificate.target.get("kind") == "agree_with_strong":
        counts = "Answers are compared on the rows that the coin drew."
    elif weight is None:
        counts = "Losses are counted in full, and no win is looked for."
    else:
        counts = (
            f"Losses are counted in full; each win counts {weight:.3g}. What was not bought counts against the promise."
        )
    yield ResultWarning(
        "sampled_strong",
        1,
        f"{bought:,} of {len(told):,} strong answers were bought (coin {details['q']:g}, fixed beforehand). {counts} "
        "Seconds, rankings, the oracle and the usual rules need every strong answer and are left out.",
    )


def of_larger_rates(rates: Sequence[Mapping[str, float]], *, certified: bool) -> Iterator[ResultWarning]:
    """What a larger coin would probably bring on the same rows, from `sample_size.larger_rates`; the first entry is today's."""
    if len(rates) < 2:
        return
    told = []
    for entry in rates[1:]:
        bought = "all strong answers" if entry["q"] == 1 else f"a coin of {entry['q']:g}"
        if certified:
            told.append(f"{percent(round(entry['escalation_rate'], 2))} with {bought}")
        else:
            told.append(f"in about {round(10 * entry['chance'])} of 10 cases with {bought}")
    what = (
        f"Of the same rows about {percent(round(rates[0]['escalation_rate'], 2))} are escalated with the present coin; it would be about"
        if certified
        else "On the same rows a threshold would be certified"
    )
    yield ResultWarning(
        "larger_coin",
        1,
        f"{what} {', '.join(told)}. That is an estimate, and another rate is another look at these rows.",
    )


def _of_the_promise(certificate: Certificate, reweighted: bool) -> Iterator[ResultWarning]:
    if certificate.look > (certificate.looks_planned or 1) and certificate.delta is not None:
        total = certificate.looks_delta or min(1.0, certificate.look * certificate.delta)
        planned = "" if certificate.looks_planned is None else f", and {certificate.looks_planned} were planned"
        yield ResultWarning(
            "looks",
            3 if total >= 0.5 else 2,
            f"This is the {ordinal(certificate.look)} look at these certify rows{planned}. Over all looks together the chance that some promise "
            f"breaks is only bounded by {percent(total)}; fresh rows reset the count.",
        )
    if certificate.unit == "groups":
        yield ResultWarning(
            "groups",
            1,
            f"Some rows share a group or are copies, so the promise counts {counted(certificate.n, 'group')}: {certificate.method.rsplit(', ', 1)[-1]}.",
        )
    if reweighted:
        promise = "" if certificate.delta is None else ", the promise is for the set's own mix"
        yield ResultWarning(
            "prevalence", 2, f"The labeled set's label mix is not production's: the figures are re-weighted{promise}."
        )
