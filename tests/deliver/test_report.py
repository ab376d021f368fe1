"""The page of real runs: what it must show for every verdict, kind and source, and what it must never hold."""

from __future__ import annotations

import base64
import copy
import csv
import hashlib
import json
import re
import stat
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest
from deliver import shown
from deliver.page import Node, Page, figures
from deliver.runs import HOSTILE, SCENES, Made

from pipeline.deliver.report import data as report_data
from pipeline.deliver.report import first_screen, records, tokens
from pipeline.deliver.report import page as report
from pipeline.deliver.report.figures import Drawing
from pipeline.errors import DataError
from pipeline.run import csv_text
from pipeline.run.record import Record, RunRecord, checked

Recorded = Callable[[str], Made]
QUICK = ("certified",)
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCENES]
SECTIONS = ["verdict", "decide", "tokens", "trust", "failures", "health", "use", "provenance"]
INTERVAL = re.compile(r"\[[^\]]*\]|\([^)]*\)")


@pytest.mark.parametrize("name", EVERY)
def test_every_number_stands_where_report_json_has_it(recorded: Recorded, name: str) -> None:
    made = recorded(name)
    page, data = Page(made.page), made.data
    assert page.faults == []
    assert [a["id"] for tag, a in page.elements if tag == "section"] == SECTIONS
    assert shown.faults(page, data) == []
    text = (resources.files("pipeline.deliver.report") / "schemas" / "report.schema.json").read_text("utf-8")
    assert [e.message[:200] for e in jsonschema.Draft202012Validator(json.loads(text)).iter_errors(data)] == []
    code = name if name in report_data.TITLES else data["verdict"]["code"]
    assert data["verdict"]["code"] == code
    assert data["verdict"]["title"].startswith(report_data.TITLES[code])


@pytest.mark.parametrize("name", EVERY)
def test_the_first_screen_reads_in_short_sentences(recorded: Recorded, name: str) -> None:
    section = Page(recorded(name).page).root.all("section", id="verdict")[0]
    texts = [p.text for cls in ("sentence", "outcome", "money", "weakest") for p in section.all("p", class_=cls)]
    assert texts
    for text in texts:
        for sentence in re.split(r"(?<=[.:;])\s", INTERVAL.sub("", text)):
            assert len(sentence.split()) <= 20, sentence


@pytest.mark.parametrize("name", EVERY)
def test_the_page_asks_for_nothing_and_its_references_are_met(recorded: Recorded, name: str) -> None:
    made = recorded(name)
    page = Page(made.page)
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", made.page)
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    files = {"policy.json", "certificate.html", "sweep.csv", "mistakes.csv", "report.json"}
    for tag, attributes in page.elements:
        for key in ("aria-labelledby", "for", "data-copy"):
            assert set((attributes.get(key) or "").split()) <= set(ids), attributes
        href = attributes.get("href") or ""
        if href.startswith("#"):
            assert href[1:] in ids, href
        elif tag == "a" and not href.endswith("index.html"):
            assert href in files
            assert (made.report / href).is_file(), href
        if tag == "svg":  # without a style sheet nothing is drawn at the size of the window, or black
            assert attributes.get("width")
            assert attributes.get("height")
    assert len(made.page.encode()) < 600_000
    live = re.findall(r"<script>(.*?)</script>", made.page, re.S)
    assert len(live) == 1
    digest = base64.b64encode(hashlib.sha256(live[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in made.page


def test_every_cell_with_a_number_is_held_against_report_json(recorded: Recorded) -> None:
    """With each digit one higher there is a fault for each such cell."""

    def raise_digits(node: Node) -> None:
        for i, child in enumerate(node.children):
            if isinstance(child, Node):
                raise_digits(child)
            else:
                node.children[i] = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), child)

    made = recorded("certified")
    page = Page(made.page)
    cells = [c for body in page.root.all("tbody") for tag in ("th", "td") for c in body.all(tag) if figures(c.text)]
    for cell in cells:
        raise_digits(cell)
    assert len(cells) > 400
    fixed = 2  # the rules that are named for their number
    assert len(shown.faults(page, made.data)) >= len(cells) - fixed


@pytest.mark.parametrize("key", ["outcome", "money", "weakest"])
def test_a_wrong_number_on_the_first_screen_is_noticed(recorded: Recorded, key: str) -> None:
    made = recorded("certified")
    page = Page(made.page)
    (line,) = page.root.all("p", id=key)
    line.children.append(" 97.31 %")
    assert any(fault.startswith(key) for fault in shown.faults(page, made.data))


@pytest.mark.parametrize(
    ("name", "model", "field"),
    [
        ("recommendation.json", records.Recommendation, "outcome"),
        ("recommendation.json", records.Recommendation, "usual_rules"),
        ("recommendation.json", records.Recommendation, "threshold"),
        ("calibration.json", records.Calibration, "metrics"),
        ("run.json", RunRecord, "run_id"),
        ("report.json", records.Report, "cards"),
    ],
)
def test_a_key_that_is_missing_is_an_error_that_names_it(
    recorded: Recorded, name: str, model: type[Record], field: str
) -> None:
    made = recorded("certified")
    told = made.data if name == "report.json" else made.json(name)
    told = {key: value for key, value in told.items() if key not in ("schema", "digest")}
    assert getattr(checked(model, told, name, remedy=""), field) is not None or told[field] is None
    told[f"{field}s"] = told.pop(field)
    with pytest.raises(
        DataError, match=rf"{name}: {field}: field required; it was written by another version: mend it"
    ):
        checked(model, told, name, remedy="mend it")


@pytest.mark.parametrize(
    "place",
    [
        "trust.signals.0.auroc",
        "trust.signals.0.n",
        "trust.signals.0.difference_se",
        "trust.signals.0.chosen",
        "trust.metrics.before.certify.brier",
        "trust.metrics.after.fit.nll",
        "trust.metrics.after.fit.nll.lower",
        "trust.selection.0.cv_nll",
        "trust.risk.columns.selective_risk_lower",
        "health.previous_confidence",
    ],
)
def test_no_key_that_the_page_shows_may_be_missing(recorded: Recorded, place: str) -> None:
    """Figures are left out, which take most of the time: what is read for them is not in question here."""
    data = copy.deepcopy(recorded("certified").data)
    drawn = {name: Drawing(name, "<svg></svg>", b"", b"") for name in ("reliability", "risk")}
    assert "Trust" in report.render(data, drawn)
    *outer, key = place.split(".")
    inner: Any = data
    for part in outer:
        inner = inner[int(part) if part.isdecimal() else part]
    value = inner.pop(key)
    inner[f"{key}_"] = value
    with pytest.raises((jinja2.UndefinedError, KeyError)) as missing:
        report.render(data, drawn)
    assert key in str(missing.value)


@pytest.mark.parametrize("place", ["measured", "counts", "spending.cheap", "models.strong"])
def test_a_misspelled_key_of_a_run_is_an_error_that_names_it(recorded: Recorded, place: str) -> None:
    told = recorded("certified").json("run.json")
    assert RunRecord.of_json(told, "run.json").to_json() == {k: v for k, v in told.items() if k != "digest"}
    inner = told
    for name in place.split("."):
        inner = inner[name]
    inner["misspelt"] = 1
    with pytest.raises(DataError, match=rf"run.json: {place}.misspelt: extra inputs are not permitted"):
        RunRecord.of_json(told, "run.json")


@pytest.mark.slow
def test_a_run_of_another_version_is_named_by_report_and_evaluated_anew(recorded: Recorded, tmp_path: Path) -> None:
    made = recorded("hidden").copied(tmp_path)
    path, told = made.artefact("run.json"), made.json("run.json")
    del told["measured"]["forms"], told["digest"]
    path.write_text(json.dumps(told))
    assert made.command("report") == 2
    assert made.command("evaluate") == 0
    assert made.json("run.json")["measured"]["forms"] == {"cheap": None, "strong": None}


@pytest.mark.parametrize(
    ("value", "upper", "split", "qualified"),
    [(-0.02, -0.005, "test", False), (-0.05, -0.01, "test", True), (-0.01, 0.01, "certify", True)],
)
def test_the_badge_is_qualified_where_the_rows_do_not_bear_the_promise_out(
    recorded: Recorded, tmp_path: Path, value: float, upper: float, split: str, qualified: bool
) -> None:
    """Beyond the promise of 3 points on held-out rows; or, without any, an interval that reaches beyond it."""
    from pipeline.decide.advice.holdout_check import Outcome
    from pipeline.decide.curves.at_threshold import Estimate
    from pipeline.decide.target import Goal

    figure = Estimate(value, -0.04, upper, 0.99, 300, split)
    outcome = Outcome(Goal("match_strong", 0.1, within=0.03), figure, -0.03, human=False)
    assert outcome.qualified == qualified
    data = copy.deepcopy(recorded("certified").data)
    data["verdict"] |= {"qualified": outcome.qualified, "outcome": outcome.to_json()}
    page = Page(report.render(data, {})).root.all("section", id="verdict")[0]
    assert ("qualified" in (page.attributes["class"] or "")) == qualified


def test_the_badge_of_a_real_run_follows_its_test_rows(recorded: Recorded) -> None:
    made = recorded("certified")
    frame, data = made.table("predictions.parquet"), made.data
    test = frame[frame["split"] == "test"].dropna(subset=["cheap_correct", "strong_correct"])
    kept = test["confidence"] >= data["verdict"]["threshold"]
    loss = (test["cheap_correct"].astype(float) - test["strong_correct"].astype(float))[kept].sum() / len(test)
    assert data["verdict"]["outcome"]["figure"]["value"] == pytest.approx(loss)
    assert data["verdict"]["qualified"] == (loss < -0.03)


@pytest.mark.slow
def test_dollars_a_month_are_the_dollars_of_so_many_requests(recorded: Recorded, tmp_path: Path) -> None:
    made = recorded("certified").copied(tmp_path)
    config = json.loads(made.config.read_text())
    made.config.write_text(json.dumps(config | {"volume": {"requests_per_month": 250_000}}))
    assert made.command("report") == 0
    money = made.data["first"]["money"]
    cost = next(c for c in made.data["cards"] if c["key"] == "cost")
    assert money["monthly"] is True
    assert money["cascade"] == pytest.approx(250 * cost["estimate"]["value"])
    assert money["saved"] == pytest.approx(250 * (cost["strong"]["value"] - cost["estimate"]["value"]))
    words = Page(made.page).words
    assert "250,000 requests a month cost" in words


def test_tokens_are_those_of_the_replies_in_three_sets(recorded: Recorded) -> None:
    made = recorded("certified")
    frame, threshold = made.table("predictions.parquet").set_index("example_id"), made.data["verdict"]["threshold"]
    every = made.table("tokens.parquet").query("role == 'cheap'")
    names = []
    for found in made.data["tokens"]["sets"]:
        assert 0 < len(found["replies"]) <= tokens.MOST_REPLIES
        for reply in found["replies"]:
            row = frame.loc[reply["example_id"]]
            kept, right = row["confidence"] >= threshold, bool(row["cheap_correct"])
            names.append("kept_wrong" if kept and not right else "for_nothing" if right and not kept else "rescued")
            assert names[-1] == found["name"]
            mine = every[every["example_id"] == reply["example_id"]].sort_values("position")
            assert [t["token"] for t in reply["tokens"]] == list(mine["token"])
            assert reply["tokens"][0]["probability"] == pytest.approx(2.718281828 ** mine["logprob"].iloc[0], rel=1e-6)
    page = Page(made.page)
    strips = [n for n in page.root.all("span", class_="tok") if "data-token" in n.attributes]
    assert len(strips) == sum(len(r["tokens"]) for s in made.data["tokens"]["sets"] for r in s["replies"])
    assert all(n.attributes.get("tabindex") == "0" for n in strips)


@pytest.mark.slow
def test_rows_stay_out_of_the_page_where_the_config_forbids_them(recorded: Recorded) -> None:
    made = recorded("hidden")
    assert made.data["tokens"] is None
    assert made.data["failures"]["mistakes"] is None
    assert "invoice" not in made.page
    assert "row-0" not in made.page
    assert "data-token" not in re.sub(r"<script.*?</script>", "", made.page, flags=re.S)
    assert not (made.report / "mistakes.csv").exists()


@pytest.mark.slow
def test_row_54_hostile_names_and_texts_stay_text(recorded: Recorded) -> None:
    made = recorded("hostile")
    for name in ("report.html", "certificate.html"):
        text = (made.report / name).read_text("utf-8")
        page = Page(text)
        assert page.faults == []
        assert sum(tag == "script" for tag, _ in page.elements) == (2 if name == "report.html" else 0)
        assert not {"img", "iframe", "object", "embed", "link", "base"} & {tag for tag, _ in page.elements}
        assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u0000]", text)
    words = Page(made.page).words
    assert "<script>window.pwned" in words
    assert "⟨U+202E⟩gnp.exe" in words


@pytest.mark.slow
def test_a_table_that_is_taken_away_runs_no_formula(recorded: Recorded) -> None:
    made = recorded("hostile")
    with (made.report / "mistakes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(made.data["failures"]["mistakes"])
    assert any(HOSTILE[-1] in value for row in rows for value in row.values())
    assert not [v for row in rows for k, v in row.items() if k != "confidence" and v[:1] in set("=+-@\t\r")]
    for start in csv_text.FORMULA:
        assert csv_text.guarded(f"{start}1") == f"'{start}1"
    assert csv_text.guarded(-1.5) == -1.5


def test_the_sweep_that_is_taken_away_is_the_whole_sweep(recorded: Recorded) -> None:
    made = recorded("certified")
    with (made.report / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = made.table("sweep.parquet")
    assert len(rows) == len(table)
    assert [float(r["threshold"]) for r in rows] == pytest.approx(list(table["threshold"]))
    assert float(rows[5]["system_accuracy"]) == pytest.approx(table["system_accuracy"].iloc[5], rel=1e-8)


def test_the_certificate_holds_promise_test_numbers_and_digests(recorded: Recorded) -> None:
    made = recorded("certified")
    page = Page((made.report / "certificate.html").read_text("utf-8"))
    data = made.data
    for text in (
        data["verdict"]["promise"],
        data["use"]["policy_sha256"],
        data["provenance"]["digests"]["dataset"],
        "Signature",
    ):
        assert " ".join(text.split()) in page.words
    assert not [tag for tag, _ in page.elements if tag == "script"]


@pytest.mark.slow
def test_a_table_of_predictions_gets_code_that_works_for_it(recorded: Recorded) -> None:
    words = Page(recorded("table").page).words
    assert "policy.decide_confidence(" in words
    assert "policy.decide(completion)" not in words
    assert "Replies without log-probabilities" not in words
    assert "policy.decide(completion)" in Page(recorded("certified").page).words


@pytest.mark.slow
def test_the_python_on_the_page_runs(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands on the page, with the reply and the strong model that it leaves to the reader."""
    for name in ("table", "certified"):
        made = recorded(name)
        code = Page(made.page).root.all("code", id="python-code")[0].children[0]
        monkeypatch.chdir(made.report)
        first = (made.folder / "cheap.jsonl").read_text().splitlines()[0] if name == "certified" else None
        space: dict[str, Any] = {"ask_strong_model": lambda: "asked"}
        space["completion"] = None if first is None else json.loads(first)["response"]["body"]
        exec(str(code), space)
        assert space["decision"].action in ("accept", "escalate")


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes_and_the_page_follows_from_report_json(
    recorded: Recorded, tmp_path: Path
) -> None:
    made = recorded("uncertified").copied(tmp_path)
    before = {p.name: p.read_bytes() for p in made.report.rglob("*") if p.is_file()}
    assert made.command("report") == 0
    assert {p.name: p.read_bytes() for p in made.report.rglob("*") if p.is_file()} == before
    assert {"decide.svg", "decide.png", "sweep.csv", "certificate.html", "policy.json"} <= set(before)
    assert report.render(made.data) == made.page
    assert made.artefact("policy.json").read_bytes() == before["policy.json"]


def test_the_headline_of_a_threshold_is_the_calibrated_one(recorded: Recorded) -> None:
    data = recorded("certified").data
    first, second = data["first"]["headline"]
    assert (
        first
        == f"Keep answers that are at least {round(100 * data['verdict']['calibrated_threshold'])}\u00a0% likely to be right."
    )
    assert "of requests" in second
    assert first_screen.advice_rate(data) == data["cards"][1]["estimate"]["value"]


def test_thresholds_that_also_passed_are_marked_and_no_others(recorded: Recorded) -> None:
    data = recorded("certified").data
    columns, stretches = data["decide"]["sweep"]["columns"], data["decide"]["passed"]
    assert stretches
    for threshold, passed in zip(columns["threshold"], columns["passed"], strict=True):
        inside = threshold is not None and any(
            (low is None or threshold > low) and (high is None or threshold <= high) for low, high in stretches
        )
        assert passed == inside
    recommended = data["decide"]["sweep"]["recommended"]
    assert columns["passed"][recommended]
    marks = Page(recorded("certified").page).root.all("table", id="sweep-table")[0].text.count("also certified")
    assert marks == sum(columns["passed"]) - 1


def test_files_are_for_their_owner(recorded: Recorded) -> None:
    made = recorded("certified")
    for name in ("sweep.csv", "mistakes.csv", "certificate.html"):
        assert stat.S_IMODE((made.report / name).stat().st_mode) == 0o600, name
