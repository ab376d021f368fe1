"""The page: what it must hold for every verdict, and what it must never hold."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from deliver import artefacts, shown
from deliver.page import Node, Page, figures, leaves, numbers

from pipeline.config.task import TaskConfig
from pipeline.decide.advice.number_text import roughly
from pipeline.deliver.report import data as report_data
from pipeline.deliver.report import formatting
from pipeline.deliver.report import page as report
from pipeline.errors import UsageError
from pipeline.run import directory as names
from pipeline.run.directory import Run, dump_json

VERDICTS = ("certified", "uncertified", "check_data", "cheap_only", "strong_only", "optimized")
SECTIONS = ("verdict", "decide", "trust", "failures", "health", "use", "provenance")
UNKNOWN = {"gold": False, "prices": False, "latency": False, "provider": "together"}
FLOORS = {"kind": "match_strong", "within": 0.02, "certainty": 0.9, "label_floors": {"spam": 0.97, "work": 0.5}}
RANKING = {"kind": "options", "rows": 123} | {
    who: {"top_1": {"value": at, "lower": at - 0.02, "upper": at + 0.02, "level": 0.9, "n": 123, "split": "test"}}
    for who, at in (("cheap", 0.8123), ("cascade", 0.9234), ("strong", 0.9345))
}


DECIDED: dict[str, dict[str, Any]] = {
    "certified": {"rows": 2400},
    "uncertified": {"target": {"kind": "match_strong", "within": 0.001, "certainty": 0.9}},
    "check_data": {"target": {"kind": "match_strong", "within": 0.001, "certainty": 0.9}},
    "cheap_only": {"verdict": "cheap_only", "target": {"kind": "match_strong", "within": 0.2, "certainty": 0.9}},
    "strong_only": {"rows": 2400},
    "optimized": {"verdict": "optimized"},
}
"""What leads to each verdict when it is worked out rather than given."""


@dataclass(frozen=True)
class Written:
    run: Run
    config: TaskConfig
    data: dict[str, Any]
    page: str


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """A page for every verdict, every kind, and one where labels, prices and times are unknown."""
    scenes: dict[str, dict[str, Any]] = {v: {"verdict": v} for v in VERDICTS}
    scenes |= {"choose": {"kind": "choose"}, "judge": {"kind": "judge"}, "unknown": UNKNOWN}
    scenes["people"] = {"human": True, "provider": "together"}
    scenes["floors"] = {"target": FLOORS, "prevalence": {"work": 0.6, "personal": 0.2, "spam": 0.1, "other": 0.1}}
    made: dict[str, Written] = {}
    for name, changes in scenes.items():
        run, config = artefacts.write_run(tmp_path_factory.mktemp("runs"), task=name, levels=60, rows=500, **changes)
        before = made["certified"].data if name == "floors" else None
        built = report_data.build(run, config, texts=artefacts.texts_of(run), previous=before)
        data = json.loads(dump_json(built))
        if name == "choose":
            data["decide"]["ranking"] = RANKING
        drawn = None if name in ("certified", "unknown") else {}  # drawing takes most of the time
        made[name] = Written(run, config, data, report.render(data, drawn))
    for verdict, changes in DECIDED.items():
        run, config = artefacts.write_run(tmp_path_factory.mktemp("runs"), task=verdict, **{"rows": 500} | changes)
        frame = run.read_table(names.PREDICTIONS)
        if verdict == "check_data":
            frame["label"] = "work"
        if verdict == "strong_only":
            frame["strong_usd"] = frame["cheap_usd"] / 50
        run.write_frame(names.PREDICTIONS, frame)
        artefacts.decide(run, config)
        data = json.loads(dump_json(report_data.build(run, config, texts=artefacts.texts_of(run))))
        made[f"decided {verdict}"] = Written(run, config, data, report.render(data, {}))
    return made


def test_every_verdict_and_kind_has_all_seven_sections_in_order(written: dict[str, Written]) -> None:
    for made in written.values():
        page = Page(made.page)
        assert [a["id"] for tag, a in page.elements if tag == "section"] == list(SECTIONS)
        assert page.faults == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("certified", "Certified"),
        ("uncertified", "Not certified"),
        ("check_data", "Check data"),
        ("cheap_only", "Cheap model is enough"),
        ("strong_only", "Use the strong model"),
        ("optimized", "Optimized, no promise"),
    ],
)
def test_the_first_heading_of_the_page_names_the_verdict(written: dict[str, Written], name: str, words: str) -> None:
    first = re.search(r'<section id="verdict".*?<h2.*?</h2>', written[name].page, re.S)
    assert first
    assert words in Page(first[0] + "</section>").words
    assert written[name].data["verdict"]["sentence"] in Page(written[name].page).words


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_words_that_a_run_really_leads_to_are_on_the_page(written: dict[str, Written], verdict: str) -> None:
    made = written[f"decided {verdict}"]
    told, page = made.data["verdict"], Page(made.page)
    assert (told["code"], told["title"]) == (verdict, report_data.TITLES[verdict])
    assert told["sentence"] not in {given.format(t=told["threshold"]) for given, _ in artefacts.SENTENCES.values()}
    words = " ".join(page.root.all("section", id="verdict")[0].text.split())
    for text in (told["sentence"], told["promise"], told["not_said"], *(w["text"] for w in made.data["warnings"][:3])):
        assert " ".join((text or "").split()) in words


def test_the_page_names_no_external_address(written: dict[str, Written]) -> None:
    for made in written.values():
        assert not re.search(r"(?:https?:)?//[a-z0-9]", made.page)
        for tag, attributes in Page(made.page).elements:
            for key in ("src", "href", "action", "srcset", "xlink:href", "poster", "data"):
                value = attributes.get(key)
                assert value is None or value.startswith("#") or value == "../../index.html", (tag, value)


def test_the_content_policy_allows_exactly_the_script_of_the_page(written: dict[str, Written]) -> None:
    page = written["certified"].page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    live = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(live) == 1
    digest = base64.b64encode(hashlib.sha256(live[0].encode()).digest()).decode()
    wanted = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    assert policy[1].startswith(wanted)


def test_ids_are_unique_and_every_reference_to_one_is_met(written: dict[str, Written]) -> None:
    for made in written.values():
        elements = Page(made.page).elements
        ids = [a["id"] for _, a in elements if a.get("id")]
        assert len(ids) == len(set(ids))
        for _, attributes in elements:
            for key in ("aria-labelledby", "for", "aria-describedby", "data-copy"):
                assert set((attributes.get(key) or "").split()) <= set(ids), attributes
            href = attributes.get("href") or ""
            assert not href.startswith("#") or href[1:] in ids, href
            for used in re.findall(r"url\(#([^)]+)\)", attributes.get("clip-path") or ""):
                assert used in ids


def test_report_json_keeps_its_schema(written: dict[str, Written]) -> None:
    text = (resources.files("pipeline.deliver.report") / "schemas" / "report.schema.json").read_text("utf-8")
    validator = jsonschema.Draft202012Validator(json.loads(text))
    for name, made in written.items():
        assert [e.message[:200] for e in validator.iter_errors(made.data)] == [], name
    broken = copy.deepcopy(written["certified"].data)
    broken["cards"][0]["estimate"]["value"] = "95 %"
    assert list(validator.iter_errors(broken))


def allowed_numbers(data: dict[str, Any]) -> set[str]:
    """Every way in which a number or text of report.json may be written, and the numbers of the fixed wording."""
    allowed: set[str] = set()
    for _, leaf in {(type(leaf), leaf) for leaf in leaves(data)}:  # True is no 1, and 1.0 is written unlike 1
        if isinstance(leaf, str):
            allowed |= numbers(formatting.plain(leaf, 10**6)) | numbers(formatting.moment(leaf))
        elif isinstance(leaf, bool):
            continue
        else:
            f = formatting
            texts = [f.share(leaf), f.share(leaf, 0), f.usd(leaf), f.per_1000(leaf), f.seconds(leaf), f.count(leaf)]
            texts += [f.number(leaf, d) for d in (2, 3, 4, 5, 6)] + [f.short(leaf), f.short(100 * leaf), repr(leaf)]
            texts += [f.threshold(leaf), f.points(leaf), f.change(leaf), roughly(leaf)]
            allowed |= set().union(*map(numbers, texts))
    return allowed | numbers_of_the_wording()


@cache
def numbers_of_the_wording() -> set[str]:
    folder = resources.files("pipeline.deliver.report")
    found = numbers((folder / "captions.py").read_text("utf-8"))
    for file in (folder / "templates").iterdir():
        if file.name.endswith(".j2"):
            found |= numbers(re.sub(r"\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", file.read_text("utf-8"), flags=re.S))
    return found


def test_every_card_and_table_shows_what_report_json_has_for_that_place(written: dict[str, Written]) -> None:
    for name, made in written.items():
        assert shown.faults(Page(made.page), made.data) == [], name


def test_every_number_in_running_text_is_in_report_json(written: dict[str, Written]) -> None:
    for name, made in written.items():
        assert numbers(Page(made.page).words) - allowed_numbers(made.data) == set(), name


def planted(made: Written, after: str, number: str) -> str:
    """The page with the first such number behind a mark in the place of another one of report.json's shares."""
    head, mark, tail = made.page.partition(after)
    assert mark
    assert number in tail
    share = formatting.share(made.data["failures"]["labels"]["rows"][0]["strong_accuracy"]["value"])
    another = share.removesuffix("\u00a0%")
    assert another != number
    return head + mark + tail.replace(number, another, 1)


@pytest.mark.parametrize("place", ["card", "interval", "below a card", "sentence", "sweep", "table", "running text"])
def test_a_wrong_number_is_noticed_where_it_stands(written: dict[str, Written], place: str) -> None:
    """Each is a number that report.json holds for another place, so that no list of numbers tells it from a right one."""
    made = written["certified"]
    quality, sweep = made.data["cards"][0], made.data["decide"]["sweep"]

    def bare(value: float) -> str:
        return formatting.share(value).removesuffix("\u00a0%")

    after, number = {
        "card": ('data-card="quality"', bare(quality["estimate"]["value"])),
        "interval": ('data-card="quality"', bare(quality["estimate"]["upper"])),
        "below a card": ("strong model alone", bare(quality["strong"]["value"])),
        "sentence": ('class="sentence"', "24"),
        "sweep": ('id="sweep-table"', bare(sweep["columns"]["system_accuracy_lower"][7])),
        "table": ('aria-label="Results by segment"', bare(made.data["failures"]["segments"]["rows"][1]["cascade_accuracy"]["value"])),
        "running text": ("Each model alone on these rows", bare(made.data["decide"]["ends"]["cheap_only"]["accuracy"]["lower"])),
    }[place]  # fmt: skip
    page = Page(planted(made, after, number))
    assert numbers(page.words) - allowed_numbers(made.data) == set()
    assert len(shown.faults(page, made.data)) == 1


def test_every_cell_with_a_number_is_held_against_report_json(written: dict[str, Written]) -> None:
    """With each digit one higher there is a fault for each such cell."""

    def raise_digits(node: Node) -> None:
        for i, child in enumerate(node.children):
            if isinstance(child, Node):
                raise_digits(child)
            else:
                node.children[i] = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), child)

    for name, made in written.items():
        page = Page(made.page)
        cells = [c for body in page.root.all("tbody") for tag in ("th", "td") for c in body.all(tag) if figures(c.text)]
        for cell in cells:
            raise_digits(cell)
        assert len(cells) > 100, name
        assert len(shown.faults(page, made.data)) == len(cells), name


def test_a_card_or_table_without_a_place_in_report_json_is_noticed(written: dict[str, Written]) -> None:
    made = written["certified"]
    table = '<div role="region" aria-label="Another"><table><tbody><tr><td>97.31</td></tr></tbody></table></div>'
    for more in (table, '<ul><li class="card" data-card="another"><p class="value">97.31</p></li></ul>'):
        assert len(shown.faults(Page(made.page.replace("</main>", f"{more}</main>")), made.data)) == 1


def test_a_number_from_elsewhere_would_be_noticed(written: dict[str, Written]) -> None:
    made = written["certified"]
    page = made.page.replace("</main>", "<p>97.31 % of users agree</p></main>")
    assert "97.31" in numbers(Page(page).words) - allowed_numbers(made.data)


def test_another_value_in_report_json_is_another_value_on_the_page(written: dict[str, Written]) -> None:
    data = copy.deepcopy(written["certified"].data)
    data["cards"][0]["estimate"]["value"] = 0.12345
    assert "12.3 %" in Page(report.render(data, {})).words.replace("\u00a0", " ")


def test_the_same_run_gives_the_same_bytes_and_the_page_follows_from_report_json(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path / "runs", levels=40, rows=300)
    first, second = (report.write(run, config, tmp_path / name).parent for name in ("a", "b"))
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert {p.name for p in files} >= {"report.html", "report.json", "policy.json", "decide.svg", "decide.png"}
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    page = (first / "report.html").read_text("utf-8")
    assert report.render(json.loads((first / "report.json").read_bytes())) == page
    assert (first / "policy.json").read_bytes() == run.path(names.POLICY).read_bytes()
    assert json.loads((tmp_path / "a" / run.task / "latest.json").read_text()) == {"run_id": run.run_id}


def test_only_runs_of_demonstration_models_carry_the_banner(written: dict[str, Written]) -> None:
    assert "Demonstration models." in Page(written["certified"].page).words
    assert "stands in for Qwen/Qwen3.5-9B" in Page(written["certified"].page).words
    assert "Demonstration models." not in Page(written["unknown"].page).words


def test_what_is_unknown_is_said_in_words_and_never_printed_as_zero(written: dict[str, Written]) -> None:
    words = Page(written["unknown"].page).words
    for said in ("No price, or no token counts.", "No times were recorded", "No row has a label", "no mix of labels"):
        assert said in words
    assert "Agreement with the strong model" in words
    assert "$0 " not in words
    cards = {c["key"]: c["estimate"]["value"] for c in written["unknown"].data["cards"]}
    assert cards["cost"] is None
    assert cards["latency"] is None


def test_a_run_with_nothing_but_a_recommendation_still_makes_a_page(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=200)
    for name in (names.PREDICTIONS, names.SWEEP, names.CALIBRATION, names.RELIABILITY, names.REPLIES, names.POLICY):
        (run.directory / name).unlink()
    data = report_data.build(run, config)
    words = Page(report.render(json.loads(dump_json(data)), {})).words
    for said in ("There is no sweep", "No reliability curve", "no table of predictions", "no policy.json"):
        assert said in words
    (run.directory / names.RECOMMENDATION).unlink()
    with pytest.raises(UsageError, match="recommend"):
        report_data.build(run, config)


def test_where_people_answer_the_page_speaks_of_people(written: dict[str, Written]) -> None:
    words = Page(written["people"].page).words
    assert "Sent to people" in words
    assert "people alone" in words
    assert "Sent to the strong model" not in words
    assert [p["unit"] for p in written["people"].data["decide"]["prices"]["components"]][-1] == "USD per 1,000 calls"


def test_rows_stay_out_of_the_page_where_the_config_forbids_them(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path, levels=20, rows=200, examples="none")
    data = report_data.build(run, config, texts=artefacts.texts_of(run))
    assert data["failures"]["mistakes"] is None
    page = report.render(data, {})
    assert "this is the text of" not in page
    assert "row-00" not in page


def test_the_page_stays_under_600_kb_with_many_thresholds_labels_segments_and_long_texts(tmp_path: Path) -> None:
    many = tuple(f"a rather long label name number {i}" for i in range(300))
    run, config = artefacts.write_run(tmp_path, levels=1000, rows=6000, labels=many, segments=many)
    texts = dict.fromkeys(artefacts.texts_of(run), "lorem ipsum " * 2000)
    data = json.loads(dump_json(report_data.build(run, config, texts=texts)))
    assert len(data["decide"]["sweep"]["columns"]["threshold"]) <= 512
    assert max(len(m["text"]) for m in data["failures"]["mistakes"]) <= 500
    assert len(data["failures"]["labels"]["rows"]) == 80
    assert data["failures"]["labels"]["left_out"] > 0
    recommended = data["decide"]["sweep"]["recommended"]
    assert data["decide"]["sweep"]["columns"]["threshold"][recommended] == data["verdict"]["threshold"]
    page = report.render(data)
    assert len(page.encode()) < 600_000


HOSTILE = (
    "<script>document.title='pwned'</script>",
    "</script><svg onload=alert(1)>",
    "</style></title><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u202c \u2066iso",
    '" autofocus onfocus=alert(1) x="',
    "<!-- -->]]>&lt;b&gt;",
    "a\u0000b\ud800c",
)


def test_hostile_names_and_texts_stay_text(tmp_path: Path) -> None:
    clean = tuple(h.replace("\ud800", "").replace("\u0000", "\u0001") for h in HOSTILE)
    run, config = artefacts.write_run(
        tmp_path,
        levels=30,
        rows=400,
        labels=clean,
        segments=clean,
        cheap=clean[0],
        strong=clean[1],
        description=clean[2],
    )
    texts = {i: HOSTILE[k % len(HOSTILE)] for k, i in enumerate(artefacts.texts_of(run))}
    data = json.loads(dump_json(report_data.build(run, config, texts=texts)))
    made = report.render(data)
    page = Page(made)
    assert page.faults == []
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    assert not {"img", "iframe", "object", "embed", "link", "base"} & {tag for tag, _ in page.elements}
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert "<script>document.title" in page.words
    assert "{{ 7 * 7 }}" in page.words
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u0000]", made)
    assert "⟨U+202E⟩gnp.exe" in page.words


def test_grave_warnings_come_first_and_three_are_on_the_first_screen(written: dict[str, Written]) -> None:
    data = copy.deepcopy(written["check_data"].data)
    assert [w["gravity"] for w in data["warnings"]] == sorted((w["gravity"] for w in data["warnings"]), reverse=True)
    first = report.render(data, {}).split('<section id="decide"')[0]
    assert "Only one label occurs" in first
    assert first.count('class="g') == 3
