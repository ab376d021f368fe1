"""Floors of segments, and what is said where a floor is what fails."""

from dataclasses import replace

import numpy as np
import pytest
from decide.evaluated import evaluated, texts
from pydantic import ValidationError
from scipy import stats

from cascade_threshold.errors import UsageError
from pipeline.config.target import Target
from pipeline.decide.certify import certify
from pipeline.decide.recommend import recommend
from pipeline.decide.target import Goal

PLAIN = Goal("match_strong", 0.1, within=0.02)


def by_category(n=4000, *, seed=1, weak=0.25, strong_there=0.98):
    """A yes/no table in two categories; the cheap model misses `weak` of what is a threat, however sure it is."""
    rng = np.random.default_rng(seed)
    rows = evaluated(n, seed=seed, shares=(0.0, 1.0, 0.0))
    threat, yes = rng.random(n) < 0.3, rng.random(n) < 0.3
    missed = threat & yes & (rng.random(n) < weak)
    return replace(
        rows,
        segment=texts(np.where(threat, "threat", "spam")),
        label=texts(np.where(yes, "yes", "no")),
        cheap_correct=np.where(missed, 0.0, np.where(threat & yes, 1.0, rows.cheap_correct)),
        strong_correct=np.where(threat & yes, (rng.random(n) < strong_there) * 1.0, rows.strong_correct),
    )


def test_a_floor_of_a_label_in_a_segment_holds_at_the_certified_threshold_and_costs_escalation():
    rows = by_category()
    floored = replace(PLAIN, segment_floors={"threat": {"yes": 0.8}})
    without, found = (certify(rows, goal, seed=1) for goal in (PLAIN, floored))
    assert found.threshold is not None
    assert found.escalation_rate > without.escalation_rate
    mine = (rows.segment == "threat") & (rows.label == "yes")

    def p_at(threshold):
        kept = rows.confidence[mine] >= threshold
        wrong = np.where(kept, rows.cheap_correct[mine] != 1, rows.strong_correct[mine] != 1)
        return stats.binom.cdf(int(wrong.sum()), int(mine.sum()), 0.2)

    assert p_at(found.threshold) <= 0.1 < p_at(without.threshold)
    assert found.p_value >= p_at(found.threshold) - 1e-12
    assert "yes in threat" in found.reason


def test_a_plain_number_is_a_floor_for_every_row_of_the_segment():
    rows = by_category()
    found = certify(rows, replace(PLAIN, segment_floors={"threat": 0.9}), seed=1)
    mine = rows.segment == "threat"
    kept = rows.confidence[mine] >= found.threshold
    wrong = np.where(kept, rows.cheap_correct[mine] != 1, rows.strong_correct[mine] != 1)
    assert stats.binom.cdf(int(wrong.sum()), int(mine.sum()), 0.1) <= 0.1


@pytest.mark.parametrize("floors", [{"label_floors": {"rare": 0.95}}, {"segment_floors": {"odd": {"rare": 0.95}}}])
def test_the_sentence_names_the_floor_that_fails_and_how_many_rows_of_that_label_would_help(floors):
    """Thirty flawless rows of a label cannot show .95: 45 would (ln .1 / ln .95), whatever is labeled besides."""
    rows = evaluated(3000, seed=4, shares=(0.0, 1.0, 0.0))
    rare = np.arange(3000) < 30
    rows = replace(
        rows,
        label=texts(np.where(rare, "rare", rows.label)),
        segment=texts(np.where(rare, "odd", "usual")),
        cheap_correct=np.where(rare, 1.0, rows.cheap_correct),
        strong_correct=np.where(rare, 1.0, rows.strong_correct),
        cheap_answer=texts(np.where(rare, "rare", rows.cheap_answer)),
        strong_answer=texts(np.where(rare, "rare", rows.strong_answer)),
    )
    goal = replace(PLAIN, **floors)
    certificate = certify(rows, goal, seed=1)
    assert certificate.threshold is None
    missed = certificate.details["floor"]
    assert (missed["rows"], missed["right"], missed["at_least"]) == (30, 30, 0.95)
    assert 45 <= 30 + missed["further"] <= 48
    said = recommend(rows, goal, certificate=certificate, seed=1).sentence.replace("\u00a0", " ")
    name = "rare" if "label_floors" in floors else "rare in odd"
    assert f"The floor of 95 % for '{name}' fails: 30 of 30 rows of it right." in said
    assert f"more rows of '{name}' might change that" in said


def test_a_floor_that_the_models_do_not_reach_is_not_promised_by_more_rows():
    rows = by_category(weak=0.5, strong_there=0.6)
    found = certify(rows, replace(PLAIN, segment_floors={"threat": {"yes": 0.9}}), seed=1)
    assert found.threshold is None
    assert found.details["floor"]["further"] is None


def test_a_segment_that_is_not_there_is_refused_and_the_config_knows_the_shape():
    with pytest.raises(UsageError, match=r"names 'thraet'.*spam, threat"):
        certify(by_category(), replace(PLAIN, segment_floors={"thraet": 0.9}), seed=1)
    floors = {"threat": {"yes": 0.9}, "spam": 0.8}
    target = Target(kind="match_strong", within=0.02, segment_floors=floors)
    assert Goal.of(target).floors_by_segment == {"yes in threat": ("threat", "yes", 0.9), "spam": ("spam", None, 0.8)}
    for wrong in ({"threat": 1.5}, {"threat": {"yes": 0}}):
        with pytest.raises(ValidationError):
            Target(kind="match_strong", within=0.02, segment_floors=wrong)
