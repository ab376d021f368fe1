"""The pages: blocks that say what they are, links that lead somewhere, figures and tables that are the code's."""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from doc_blocks import LANGUAGES, PAGES, REASONS, ROOT, RUN_BY, blocks, prose
from test_layers import ALL_OF_THEM, ALLOWED

from pipeline.decide.target import Goal
from pipeline.decide.testing.sample_size import fewest_rows

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = (re.match(r"^#+ (.*)", line) for _, line in prose(path.relative_to(ROOT).as_posix()))
    plain = (re.sub(r"[^\w\- ]", "", heading[1].lower()) for heading in headings if heading)
    return {re.sub(r"[\s]+", "-", text.strip()) for text in plain}


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_fenced_name_their_language_and_say_why_they_are_not_run(page: str) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.where}: name one of {', '.join(LANGUAGES)} after the fence"
        assert block.not_run is None or block.not_run in REASONS, f"{block.where}: reasons are {', '.join(REASONS)}"
    lines = prose(page)
    for (_, before), (number, line) in itertools.pairwise(lines):
        in_list = any(re.match(r"^\s*([-*]|\d+\.) ", earlier) for n, earlier in lines if number - 6 <= n < number)
        assert before.strip() or in_list or not line.startswith("    ") or not line.strip(), (
            f"{page}:{number}: fence this block"
        )


def test_most_blocks_are_run_and_those_that_are_not_are_counted() -> None:
    shown = [block for page in PAGES for block in blocks(page) if block.language != "text"]
    skipped = {reason: sum(block.not_run == reason for block in shown) for reason in REASONS}
    assert sum(skipped.values()) == sum(block.not_run is not None for block in shown)
    assert len(shown) >= 2 * sum(skipped.values()), skipped
    for page, test in RUN_BY.items():
        assert Path(page).name in (ROOT / test).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(page: str) -> None:
    for number, line in prose(page):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            address = urlsplit(target)
            if address.scheme:
                assert address.scheme == "https", f"{page}:{number}: {target}"
                assert "." in address.netloc, f"{page}:{number}: {target}"
                continue
            path = (ROOT / page).parent / unquote(address.path) if address.path else ROOT / page
            assert path.exists(), f"{page}:{number}: {target} is not there"
            if address.fragment:
                assert address.fragment in anchors(path.resolve()), f"{page}:{number}: {target} has no such heading"


def test_the_figure_of_the_layers_is_what_the_imports_are_held_to() -> None:
    text = (ROOT / "README.md").read_text("utf-8").split("## Architecture")[1]
    drawn = re.findall(r"^ *(pipeline/\w+|cascade_threshold)", text.split("```")[1], re.MULTILINE)
    order = [name.replace("/", ".").removesuffix(".py") for name in drawn]
    folders = {f"pipeline.{p.name}" for p in (ROOT / "pipeline").iterdir() if (p / "__init__.py").is_file()}
    assert set(order) == folders | {"cascade_threshold", "pipeline.stages"}
    for here in order:
        if here not in ALL_OF_THEM:
            below = set(order[order.index(here) + 1 :])
            assert ALLOWED[here] & set(order) <= below, f"{here} may import what is drawn above it"


def test_the_least_rows_of_the_page_are_those_of_the_test() -> None:
    text = (ROOT / "docs" / "choosing-a-target.md").read_text("utf-8")
    rows = re.findall(r"^\| (0\.\d+) \| ([\d,]+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for within, n in rows:
        assert int(n.replace(",", "")) == fewest_rows(Goal("match_strong", 0.1, within=float(within)))
        assert int(n.replace(",", "")) >= math.log(0.1) / math.log(1 - float(within))


@pytest.fixture(scope="module")
def written() -> Any:
    """The hook that writes pages from the code."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import docs_pages
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return docs_pages


def test_every_key_of_a_config_and_every_command_is_in_its_reference_with_a_meaning(written: Any) -> None:
    from pipeline.__main__ import COMMANDS
    from pipeline.config.target import Target
    from pipeline.config.task import Dataset, Model, TaskConfig

    page = written.configuration()
    for part in (TaskConfig, Dataset, Model, Target):
        assert all(f"| `{key}` |" in page for key in part.model_fields)
    without = re.findall(r"^\| (`\w+`) .*\|  \|$", page, re.MULTILINE)
    assert not without, f"fields without a docstring: {without}"
    for name in COMMANDS:
        assert f"## {name}\n" in written.commands()


def test_every_page_is_in_the_sites_navigation(written: Any) -> None:
    from mkdocs.config import load_config

    nav = written.on_config(load_config(str(ROOT / "mkdocs.yml"))).nav
    there = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")} | set(written.WRITTEN)
    assert there <= set(written._in_nav(nav))


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_its_pages_ask_no_other_server_for_anything(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    assert {
        "index.html",
        "faq.html",
        "reference/commands.html",
        "reference/configuration.html",
        "CONTRIBUTING.html",
    } <= set(pages)
    for name, page in pages.items():
        loaded = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?(https?:[^\" >]*)", page)
        assert not [address for address in loaded if "canonical" not in address], name
    written = pages["python-api.html"]
    assert all(name in written for name in ("decide_confidence", "certify_match_strong", "plot_reliability"))
