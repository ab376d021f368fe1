"""The words of the first screen and of the sections that follow from its verdict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from deliver import artefacts
from deliver.page import Page

from pipeline.deliver.report import data as report_data
from pipeline.deliver.report import page as report
from pipeline.run import directory as names
from pipeline.run.directory import dump_json


@pytest.fixture
def built(tmp_path: Path) -> Any:
    """Builds report.json of a scene, with keys of its recommendation replaced."""

    def make(advice: dict[str, Any] | None = None, **scene: Any) -> dict[str, Any]:
        run, config = artefacts.write_run(tmp_path, levels=20, rows=200, **scene)
        run.write_json(names.RECOMMENDATION, run.read_json(names.RECOMMENDATION) | (advice or {}))
        return json.loads(dump_json(report_data.build(run, config, texts=artefacts.texts_of(run))))  # type: ignore[no-any-return]

    return make


def section(data: dict[str, Any], name: str) -> str:
    """The visible words of one section of the page."""
    found = re.search(rf'<section id="{name}".*?</section>', report.render(data, {}), re.S)
    assert found
    return Page(found[0]).words


def test_the_finding_of_the_test_stands_in_the_certificate_and_not_where_another_reason_decided(built: Any) -> None:
    for verdict, shown in (("uncertified", True), ("optimized", True), ("strong_only", False)):
        words = section(built(verdict=verdict), "verdict")
        assert "Reason:" not in words
        before, _, detail = words.partition("The certificate in detail")
        assert "no level passed" not in before
        assert ("no level passed" in detail) == shown


def test_further_labels_are_told_roughly_and_once_on_the_first_screen(built: Any) -> None:
    advice = {"labels_needed": 10787, "sentence": "About 11,000 more labeled rows might change that."}
    data = built(advice, verdict="uncertified")
    assert section(data, "verdict").count("more labeled rows") == 1
    assert "About 11,000 more labeled rows might certify this target." in section(data, "use")
    assert "10,787" not in report.render(data, {})


def test_the_threshold_is_read_as_a_probability_beside_the_sentence_where_one_was_fitted(built: Any) -> None:
    reading = "escalate when the cheap model’s answer is right with a probability below 82.1 %"
    certified = built(verdict="certified")
    assert reading in section(certified, "verdict")
    certified["trust"]["calibrator"] = {"kind": "none"}
    assert "probability below" not in section(certified, "verdict")
    assert "calibrated probability" not in section(certified, "use")
    for verdict in ("uncertified", "cheap_only"):
        assert "probability below" not in section(built(verdict=verdict), "verdict")


def test_the_words_of_the_page_are_explained(built: Any) -> None:
    words = section(built(verdict="certified"), "provenance").partition("Words")[2]
    for name in ("Look", "Kept", "Cascade", "Signal", "Calibrator", "AURC", "Oracle", "Group"):
        assert f" {name} " in words


def test_a_tighter_target_is_shown_with_what_these_rows_and_what_more_would_certify(built: Any) -> None:
    more = {"tighter": {"within": 0.01, "labels_needed": 3456}}
    words = section(built(more, verdict="certified"), "use")
    assert "at most 1.5 points worse than the strong model, with the threshold" in words
    assert "About 3,500 more labeled rows might certify the next tighter one, at most 1 point worse" in words
    assert "was not worked out" not in words
    assert "was not worked out" in section(built({"tightest": None}, verdict="certified"), "use")


def test_where_nothing_is_kept_the_failures_are_those_of_the_cheap_model_alone(built: Any) -> None:
    for verdict in ("uncertified", "strong_only", "check_data"):
        words = section(built(verdict=verdict), "failures")
        assert "Nothing is kept: everything goes to the strong model." in words
        for said in ("recommended threshold", "kept answer", "Escalated", "none kept", "Cascade right"):
            assert said not in words
        assert "none of them kept" in words
    assert "At the recommended threshold" in section(built(verdict="certified"), "failures")


def test_long_labels_are_cut_where_they_name_rows(built: Any) -> None:
    long = tuple(letter * 300 for letter in "abc")
    words = section(built(verdict="certified", labels=long), "failures")
    assert f"{'a' * 39}…" in words
    assert "a" * 41 not in words.split("The most confident mistakes")[0]


def test_people_are_right_by_definition_and_have_no_interval(built: Any) -> None:
    data = built(human=True, provider="together", verdict="certified")
    end = data["decide"]["ends"]["strong_only"]["accuracy"]
    assert (end["lower"], end["upper"]) == (None, None)
    assert "people are right by definition" in section(data, "verdict")
    everything = built({"threshold": None}, human=True, provider="together", verdict="uncertified")
    assert everything["cards"][0]["estimate"]["lower"] is None
    for name in ("verdict", "failures"):
        assert not re.search(r"100 % \[", section(everything, name))
    assert "by definition" in section(everything, "failures")


def test_a_number_and_its_unit_stay_on_one_line_of_the_first_screen(built: Any) -> None:
    page = report.render(built(verdict="certified"), {})
    first = page[page.index('<section id="verdict"') : page.index('<ul class="warnings">')]
    assert "n&nbsp;=&nbsp;" in first
    assert "n = " not in first
    assert first.count("oes not say") == 1


def test_another_target_is_proposed_only_where_a_threshold_could_be_used(built: Any) -> None:
    tightest = {"tightest": {"within": 0.15, "threshold": 0.39, "escalation_rate": 0.8, "exploratory": True}}
    for verdict in ("certified", "cheap_only", "uncertified", "strong_only", "check_data", "optimized"):
        words = section(built(tightest, verdict=verdict), "use")
        assert ("The tightest target" in words) == (verdict in ("certified", "cheap_only", "uncertified"))
