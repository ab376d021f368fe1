"""The page: what it must hold for every verdict, and what it must never hold."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest
from deliver import artefacts

from pipeline.deliver import report

VERDICTS = ("certified", "uncertified", "check_data", "cheap_only", "strong_only", "optimized")
SECTIONS = ("verdict", "decide", "trust", "failures", "health", "use", "provenance")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page for every verdict, every kind, and one where labels, prices and times are unknown."""
    folder = tmp_path_factory.mktemp("reports")
    scenes: dict[str, dict[str, Any]] = {v: {"verdict": v} for v in VERDICTS}
    scenes |= {
        "choose": {"kind": "choose"},
        "judge": {"kind": "judge"},
        "unknown": {"gold": False, "prices": False, "latency": False, "provider": "together"},
    }
    pages = {}
    for name, changes in scenes.items():
        run, config = artefacts.write_run(folder / "runs", task=name, levels=60, rows=500, **changes)
        pages[name] = report.write(run, config, folder / "reports", texts=artefacts.texts_of(run))
    return pages


class Seen(html.parser.HTMLParser):
    """Elements with their attributes, and the text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text.append(data)


def test_every_verdict_and_kind_has_all_seven_sections_in_order(written: dict[str, Path]) -> None:
    for path in written.values():
        sections = [a["id"] for tag, a in Seen(path.read_text("utf-8")).elements if tag == "section"]
        assert sections == list(SECTIONS)


def test_the_page_names_no_external_address(written: dict[str, Path]) -> None:
    for path in written.values():
        page = path.read_text("utf-8")
        assert not re.search(r"(?:https?:)?//[a-z0-9]", page)
        for tag, attributes in Seen(page).elements:
            for key in ("src", "href", "action", "srcset", "xlink:href"):
                value = attributes.get(key)
                assert value is None or value.startswith("#") or value == "../../index.html", (tag, value)


def test_the_content_policy_allows_exactly_the_scripts_of_the_page(written: dict[str, Path]) -> None:
    page = written["certified"].read_text("utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    live = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(live) == 1
    digest = base64.b64encode(hashlib.sha256(live[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r"\son[a-z]+=", page.split("<script")[0])


def test_the_page_is_a_function_of_report_json_alone(written: dict[str, Path]) -> None:
    for path in written.values():
        data = json.loads(path.with_name("report.json").read_text("utf-8"))
        assert report.render(data) == path.read_text("utf-8")


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run, config = artefacts.write_run(tmp_path / "runs", levels=40, rows=300)
    first, second = (report.write(run, config, tmp_path / name).parent for name in ("a", "b"))
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert {p.name for p in files} >= {"report.html", "report.json", "policy.json", "decide.svg", "decide.png"}
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    again = report.write(run, config, tmp_path / "a").parent
    assert (again / "report.html").read_bytes() == (second / "report.html").read_bytes()


def test_only_runs_of_demonstration_models_carry_the_banner(written: dict[str, Path]) -> None:
    assert "Demonstration models." in written["certified"].read_text("utf-8")
    assert "Demonstration models." not in written["unknown"].read_text("utf-8")
