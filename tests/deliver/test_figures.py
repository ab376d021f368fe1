"""Figures: they show the table's numbers, and are accessible, deterministic and free of foreign text."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from deliver.runs import Made
from matplotlib.figure import Figure

from pipeline.deliver.report import captions, figures, page

ALL = {"decide", "reliability", "histogram", "risk", "signals"}


@pytest.fixture(scope="module")
def data(recorded: Callable[[str], Made]) -> dict[str, Any]:
    return recorded("certified").data


@pytest.fixture(scope="module")
def drawn(data: dict[str, Any]) -> dict[str, figures.Drawing]:
    return figures.draw(data)


def test_each_figure_is_drawn_once_with_a_caption(data: dict[str, Any], drawn: dict[str, figures.Drawing]) -> None:
    assert set(drawn) == ALL
    assert set(captions.captions(data)) == ALL
    for caption in captions.captions(data).values():
        assert caption.title
        assert caption.takeaway
        assert caption.reading


def test_drawings_are_well_formed_and_without_address_script_or_date(drawn: dict[str, figures.Drawing]) -> None:
    for drawing in drawn.values():
        ElementTree.fromstring(drawing.svg)
        inline = ElementTree.fromstring(drawing.inline)
        assert inline.get("role") == "img"
        assert inline[0].tag == "title"
        assert inline[1].tag == "desc"
        assert not re.search(r"https?:|<script|<style|<metadata|20\d\d-\d\d-\d\d", drawing.inline)
        assert b"<dc:date>" not in drawing.svg
        picture = matplotlib.image.imread(io.BytesIO(drawing.png))
        assert picture.shape[1] >= 600
        assert np.ptp(picture[..., :3]) > 0.9


def test_ids_of_different_figures_never_meet(drawn: dict[str, figures.Drawing]) -> None:
    ids = [i for d in drawn.values() for i in re.findall(r'\bid="([^"]+)"', d.inline)]
    assert len(ids) == len(set(ids))


def test_the_curve_is_drawn_through_every_row_of_the_table(data: dict[str, Any]) -> None:
    sweep, axes = data["decide"]["sweep"], Figure().subplots()
    figures.painters(data)["decide"](axes)
    lines = {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}
    rows = [
        (sweep["columns"]["usd_per_1000"][i], sweep["columns"]["system_accuracy"][i])
        for i in range(len(sweep["columns"]["threshold"]))
    ]
    assert lines["cascade"].tolist() == [list(row) for row in rows[:-1] if None not in row], (
        "the last asks no cheap model"
    )
    assert lines["recommended"].tolist() == [list(rows[sweep["recommended"]])]


def test_the_text_of_a_drawing_is_that_of_the_file(drawn: dict[str, figures.Drawing]) -> None:
    """Shortening coordinates must not shorten what is written on the axes."""
    for drawing in drawn.values():
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawing.svg.decode())
        assert texts == re.findall(r"<text[^>]*>([^<]*)</text>", drawing.inline)
        assert len(texts) > 5


@pytest.mark.slow
def test_labels_and_model_names_stay_out_of_the_drawings(recorded: Callable[[str], Made]) -> None:
    for drawing in figures.draw(recorded("hostile").data, png=False).values():
        assert "pwned" not in drawing.inline
        assert "HYPERLINK" not in drawing.inline


@pytest.mark.slow
def test_without_prices_the_curve_runs_over_the_escalation_rate(recorded: Callable[[str], Made]) -> None:
    data = recorded("unpriced").data
    drawing = figures.draw(data, png=False)["decide"]
    assert ">escalation rate<" in drawing.inline
    assert "USD" not in drawing.inline
    assert "Escalation against accuracy" in captions.captions(data)["decide"].title


@pytest.mark.slow
def test_what_has_no_data_is_not_drawn(recorded: Callable[[str], Made]) -> None:
    data = recorded("uncertified").data
    data["trust"]["reliability"] = None
    assert "reliability" not in figures.draw(data, png=False)
    assert recorded("unlabeled").data["decide"]["sweep"]["quality"] == "agreement"


@pytest.mark.slow
def test_one_end_alone_is_no_curve(data: dict[str, Any]) -> None:
    """Only the cheap end known, only the row that escalates everything known, or the same point at every threshold."""
    size = len(data["decide"]["sweep"]["columns"]["threshold"])
    for known in ({0}, {size - 1}, set(range(size))):
        changed: dict[str, Any] = json.loads(json.dumps(data))
        columns = changed["decide"]["sweep"]["columns"]
        for name, values in columns.items():
            if name.startswith("system_accuracy"):
                columns[name] = [values[0] if i in known else None for i in range(size)]
            elif len(known) == size and name != "threshold":
                columns[name] = [values[0]] * size
        drawn = figures.draw(changed, png=False)
        assert "decide" not in drawn
        assert "so there is no curve to draw" in page.render(changed, drawn)


def test_without_confidences_no_empty_histogram_is_drawn(data: dict[str, Any]) -> None:
    changed: dict[str, Any] = json.loads(json.dumps(data))
    changed["trust"]["histogram"]["null"] = changed["trust"]["histogram"]["n"]
    drawn = figures.draw(changed, png=False)
    assert "histogram" not in drawn
    assert "so there is no histogram" in page.render(changed, drawn)


def test_a_legend_lists_what_is_drawn_and_nothing_else(data: dict[str, Any]) -> None:
    changed: dict[str, Any] = json.loads(json.dumps(data))
    trust = changed["trust"]
    trust["histogram"]["wrong"] = [0] * len(trust["histogram"]["wrong"])
    columns = trust["risk"]["columns"]
    columns["selective_risk_lower"], columns["selective_risk_upper"] = ([v] * len(columns["coverage"]) for v in (0, 1))
    trust["reliability"]["after"]["corp"] = trust["reliability"]["after"]["corp"][:1]
    drawn, before = figures.draw(changed, png=False), figures.draw(data, png=False)
    for name, gone in (
        ("histogram", "wrong (below the line)"),
        ("risk", "90 % band"),
        ("reliability", "if calibrated"),
    ):
        assert f">{gone}<" in before[name].inline, name
        assert f">{gone}<" not in drawn[name].inline, name
    assert ">after calibration<" in drawn["reliability"].inline  # one point, drawn as a dot


def test_text_has_enough_contrast_in_every_tone_of_both_themes() -> None:
    """WCAG 2.2: 4.5 to 1, computed from the colours of the style sheet."""
    css = page.read_template("style.css")
    themes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(themes) == 3
    light, dark, paper = themes[0], {**themes[0], **themes[1]}, {**themes[0], **themes[2]}
    for theme in (light, dark, paper):
        for ground in ("ground", "paper", "wash"):
            for ink in ("ink", "soft", "accent"):
                assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        for tone in ("good", "warn", "bad", "info"):
            assert contrast(theme[tone], theme[f"{tone}-wash"]) >= 4.5, tone
            assert contrast(theme["ink"], theme[f"{tone}-wash"]) >= 4.5, tone
        assert contrast(theme["soft"], theme["info-wash"]) >= 4.5
        assert contrast(theme["soft"], theme["good-wash"]) >= 4.5


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        full = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        parts = np.array([int(full[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
def test_one_curve_is_drawn_where_nothing_was_calibrated(data: dict[str, Any]) -> None:
    changed: dict[str, Any] = json.loads(json.dumps(data))
    changed["trust"]["reliability"]["after"] = None
    two, one = (figures.draw(d, png=False)["reliability"].inline for d in (data, changed))
    assert ">before calibration<" in two
    assert ">after calibration<" in two
    assert "calibration<" not in one
    assert ">observed (CORP)<" in one
    assert "Data, after" not in page.render(changed)


def test_a_unit_of_the_reliability_diagram_is_as_long_upwards_as_across(drawn: dict[str, figures.Drawing]) -> None:
    lines = re.findall(r'd="M ?([\d.]+) ([\d.]+)\s*L ?([\d.]+) ([\d.]+)\s*"', drawn["reliability"].inline)
    steps = [(float(c) - float(a), float(b) - float(d)) for a, b, c, d in lines]
    (diagonal,) = [step for step in steps if min(step) > 100]  # from (0, 0) to (1, 1); all others are upright or level
    assert diagonal[0] == pytest.approx(diagonal[1], rel=1e-3)
