"""The page in a real browser: Debian's chromium driven by Playwright."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
import pytest
from deliver.runs import Made
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.deliver.report import index
from pipeline.run.directory import dump_json, write_bytes

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SECTIONS = ("Decide", "Trust", "Where it fails", "Data health", "Use it", "Provenance")
Recorded = Callable[[str], Made]


def columns(made: Made) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = made.data["decide"]["sweep"]["columns"]
    return found


def url(made: Made) -> str:
    return (made.report / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed; `make browser` installs it")
        pytest.skip("no chromium on this machine: `make browser` installs it")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def made(recorded: Recorded) -> Made:
    return recorded("certified")


@pytest.fixture
def page(browser: Browser, made: Made) -> Iterator[Page]:
    """The page from file://, with every request and every complaint on record."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(url(made))
    yield opened
    assert complaints == []
    assert {one.split("#")[0] for one in requests} == {url(made)}
    context.close()


def cards(page: Page) -> dict[str, str]:
    found = page.locator("[data-explored]").evaluate_all("all => all.map(e => [e.dataset.explored, e.textContent])")
    return dict(found)


def row(page: Page, index: int) -> list[str]:
    return page.locator("#sweep-table tbody tr").nth(index).locator("th, td").all_text_contents()


def until(page: Page, condition: str) -> None:
    """Wait for a condition. Playwright's own way compiles it within the page, which the page's policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(condition)


def marker(page: Page) -> tuple[float, float]:
    at = page.locator("#explored-marker").evaluate("e => [Number(e.getAttribute('cx')), Number(e.getAttribute('cy'))]")
    return at[0], at[1]


def test_the_explorer_works_by_keyboard_and_the_address_remembers(page: Page, made: Made) -> None:
    home = made.data["decide"]["sweep"]["recommended"]
    before, start = cards(page), marker(page)
    assert "recommended threshold" in page.locator("#explorer-state").inner_text()
    page.locator("#explorer-range").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("#explorer-state").inner_text() in ("also certified", "explored, not certified")
    assert page.locator("#explorer-output").text_content() == repr(columns(made)["threshold"][home + 3])
    cells = row(page, home + 3)
    assert cards(page)["escalation"] == cells[1].split("\n")[0].split("[")[0].strip()
    assert page.locator("#sweep-table tr.explored th").text_content() == cells[0]  # the table is folded
    assert "everything" not in page.locator("#explorer-range").get_attribute("aria-valuetext")
    assert page.locator("#explored-note").is_visible()
    hashed = page.evaluate("location.hash")
    assert hashed == f"#t={columns(made)['threshold'][home + 3]}"
    page.keyboard.press("End")
    assert cards(page)["escalation"].replace("\u00a0", " ") == "100 %"  # straight to the strong model
    assert page.evaluate("location.hash") == "#t=all"
    assert marker(page) != start
    page.locator("nav.sections a[href='#trust']").press("Enter")  # a link within the page leaves the address its values
    until(page, "Math.abs(document.getElementById('trust').getBoundingClientRect().top) < 200")
    assert page.evaluate("[location.hash, document.activeElement.id]") == ["#t=all", "trust"]
    page.goto(url(made) + hashed)
    assert page.locator("#explorer-output").text_content() == repr(columns(made)["threshold"][home + 3])
    page.locator("#explorer-reset").press("Enter")
    assert cards(page) == before
    assert marker(page) == start
    assert page.evaluate("location.hash") == ""
    assert not page.locator("#explored-note").is_visible()


def test_the_table_shows_its_caption_until_the_explorer_is_used(page: Page) -> None:
    box = page.locator(".scroll:has(> #sweep-table)")
    assert box.evaluate("e => e.scrollTop") == 0
    page.locator("#explorer-range").press("ArrowRight")
    assert box.evaluate("e => e.scrollTop") > 0
    inside = """([box, row]) => row.getBoundingClientRect().top >= box.getBoundingClientRect().top
        && row.getBoundingClientRect().bottom <= box.getBoundingClientRect().bottom"""
    handles = [box.element_handle(), page.locator("tr.explored").element_handle()]
    assert page.evaluate(inside, handles)


def test_hover_click_and_steps_choose_thresholds_on_the_chart(page: Page, made: Made) -> None:
    home = made.data["decide"]["sweep"]["recommended"]
    chart = page.locator("#chart-svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.3 * box["height"])
    hovered = page.locator("#chart-note").inner_text()
    assert "escalated" in hovered
    assert cards(page)["escalation"].replace("\u00a0", " ") in row(page, home)[1].replace("\u00a0", " ")
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.3 * box["height"])
    chosen = int(page.locator("#explorer-range").input_value())
    assert chosen != home
    told = page.locator("#chart-note").inner_text()
    passed = columns(made)["passed"][chosen]
    assert ("also certified" if passed else "explored, not certified") in told
    assert ("also certified" if passed else "explored, not certified") in page.locator("#explorer-state").inner_text()
    page.locator("#explorer-more").click()
    assert int(page.locator("#explorer-range").input_value()) == chosen + 1
    page.locator("#explorer-less").press("Enter")
    assert int(page.locator("#explorer-range").input_value()) == chosen
    wanted = columns(made)["threshold"][home + 5]
    page.locator("#explorer-value").fill(str(wanted))
    page.locator("#explorer-value").press("Enter")
    assert int(page.locator("#explorer-range").input_value()) == home + 5
    spoken = page.locator("#explorer-range").get_attribute("aria-valuetext") or ""
    assert " right, $" in spoken


def test_what_passed_is_green_on_slider_curve_and_table_alike(page: Page, made: Made) -> None:
    passed = [i for i, good in enumerate(columns(made)["passed"]) if good]
    shown = page.locator("#explorer-stretch [data-certified]").evaluate_all(
        "all => all.map(r => Number(r.getAttribute('x')) + 0.5)"
    )
    assert shown == passed
    assert page.locator("#chart-svg [data-certified]").count() > 0
    marks = page.locator("#sweep-table tbody tr").evaluate_all(
        "all => all.map(r => r.textContent.includes('also certified') || r.classList.contains('recommended'))"
    )
    assert [i for i, mark in enumerate(marks) if mark] == passed


def test_other_prices_move_the_points_of_the_chart(page: Page) -> None:
    before = marker(page), page.locator("#chart-curve").get_attribute("d")
    page.locator("#explorer-prices summary").click()
    page.locator("#price-0").fill("5")
    assert page.locator("#chart-curve").get_attribute("d") != before[1]
    assert "at your prices" in (page.locator("#chart-axis").text_content() or "")
    page.locator("#explorer-reset").click()
    assert (marker(page), page.locator("#chart-curve").get_attribute("d")) == before


def test_requests_a_month_change_the_money_and_stay_in_the_address(page: Page, made: Made) -> None:
    page.locator("#requests").fill("50000")
    money = made.data["first"]["money"]
    shown = page.locator("#money-cascade").inner_text()
    assert float(shown.removeprefix("$")) == pytest.approx(50 * money["per_1000"]["cascade"], abs=0.006)
    assert "n=50000" in page.evaluate("location.hash")
    page.reload()
    assert page.locator("#requests").input_value() == "50000"
    assert page.locator("#money-cascade").inner_text() == shown


KINDS = (
    "certified",
    "judge",
    "uncertified",
    "check_data",
    "cheap_only",
    "strong_only",
    "optimized",
    "unlabeled",
    "people",
    "accepted",
    "enriched",
    "choose",
    "table",
    "unpriced",
    "sampled",
    "pooled",
    "hidden",
)


@pytest.mark.parametrize("name", [n if n == KINDS[0] else pytest.param(n, marks=pytest.mark.slow) for n in KINDS])
def test_badge_bars_money_and_difference_stand_on_the_first_screen(
    browser: Browser, recorded: Recorded, name: str
) -> None:
    data = recorded(name).data
    parts = [".badge", ".bars"]
    parts += ["#money"] if data["first"]["money"] else []
    parts += ["#outcome"] if data["first"]["outcome"] else []
    assert len(parts) == 4 or name in ("uncertified", "check_data", "strong_only", "unpriced")
    for width, limit in ((1280, 800), (390, 1600)):
        context = browser.new_context(viewport={"width": width, "height": 800})
        opened = context.new_page()
        opened.goto(url(recorded(name)))
        for part in parts:
            box = opened.locator(part).first.bounding_box()
            assert box is not None, part
            assert box["y"] + box["height"] < limit, (part, width)
            assert box["x"] + box["width"] <= width, (part, width)
        context.close()


def test_tokens_answer_to_hover_focus_tap_and_filter(browser: Browser, made: Made) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, reduced_motion="reduce")
    opened = context.new_page()
    opened.goto(url(made))
    tokens = opened.locator("[data-token]")
    assert tokens.count() == sum(len(r["tokens"]) for s in made.data["tokens"]["sets"] for r in s["replies"])
    first = tokens.first
    first.scroll_into_view_if_needed()
    assert not first.locator(".alts").is_visible()
    first.tap()
    assert first.locator(".alts").is_visible()
    told = made.data["tokens"]["sets"][0]["replies"][0]["tokens"][0]
    assert told["alternatives"][1]["token"] in first.locator(".alts").inner_text()
    opened.keyboard.press("Escape")
    tokens.nth(1).focus()
    assert tokens.nth(1).locator(".alts").is_visible()
    opened.locator("#token-label").select_option("spam")
    shown = opened.locator(".strip:visible")
    assert 0 < shown.count() < opened.locator(".strip").count()
    assert set(shown.evaluate_all("all => all.map(s => s.dataset.label)")) == {"spam"}
    context.close()


@pytest.mark.slow
def test_the_index_sorts_and_filters_with_script_and_reads_without(
    browser: Browser, recorded: Recorded, tmp_path: Path
) -> None:
    for name, started in (("certified", "2026-11-20"), ("uncertified", "2026-11-21"), ("certified", "2026-11-27")):
        data = recorded(name).data | {"started": f"{started}T08:00:00Z", "decision_id": started.replace("-", "")}
        data.pop("digest")
        where = tmp_path / name / data["run_id"] / data["decision_id"]
        write_bytes(where / "report.json", dump_json(data))
    target = index.refresh(tmp_path).as_uri()
    for width in (1280, 390):
        context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce")
        opened = context.new_page()
        opened.goto(target)
        rows = opened.locator("table.decisions tbody tr:visible")
        assert rows.count() == 2  # the newest of each task
        opened.get_by_role("button", name="Older decisions").click()
        assert rows.count() == 3
        head = opened.get_by_role("columnheader", name="Escalated")
        for way in ("ascending", "descending"):
            opened.get_by_role("button", name="Escalated").click()
            assert head.get_attribute("aria-sort") == way
            values = [
                float(v)
                for v in rows.locator("[data-head=Escalated]").evaluate_all("all => all.map(c => c.dataset.value)")
            ]
            assert values == sorted(values, reverse=way == "descending")
        opened.get_by_label("Filter").fill("not certified")
        assert rows.count() == 1
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        box = rows.first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
        context.close()
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    opened = context.new_page()
    opened.goto(target)
    assert opened.locator("table.decisions tbody tr:visible").count() == 3
    assert opened.locator("figure svg polyline").count() == 3
    context.close()


def test_tables_sort_by_any_column(page: Page) -> None:
    table = page.locator("[aria-label='What people usually do'] table")
    table.get_by_role("button", name="Escalated").click()
    cells = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
    rates = [float(c.split("\u00a0")[0]) for c in cells]
    assert rates == sorted(rates)


def test_under_a_policy_without_script_and_style_the_page_still_reads(
    browser: Browser, made: Made, tmp_path: Path
) -> None:
    """As Jenkins serves it: no script, no style; drawings keep their sizes and nothing is opened to its full length."""
    bare = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", made.page, flags=re.S)
    path = tmp_path / "report.html"
    path.write_text(bare, "utf-8")
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.goto(path.as_uri())
    for box in opened.locator("svg:visible").evaluate_all("all => all.map(s => s.getBoundingClientRect().width)"):
        assert 0 < box < 500
    assert opened.locator("rect:visible:not([fill])").count() == 0
    assert not opened.locator("#sweep-table").is_visible()
    assert opened.get_by_text("promised: no worse than").first.is_visible()
    context.close()


def test_other_prices_are_worked_out_from_tokens(page: Page, made: Made) -> None:
    """Against the token counts of the replies: a strong model at half its input price."""
    page.locator("#explorer-prices summary").click()
    page.locator("#price-2").fill("0.66")
    home = made.data["decide"]["sweep"]["recommended"]
    predictions, replies = made.table("predictions.parquet"), made.table("replies.parquet")
    test = predictions[predictions["split"] == "test"]
    by = {r: replies[replies["role"] == r].set_index("example_id").loc[test["example_id"]] for r in ("cheap", "strong")}
    gone = ~(test["confidence"].to_numpy() >= columns(made)["threshold"][home])
    cheap = by["cheap"]["input_tokens"] * 0.17 + by["cheap"]["output_tokens"] * 0.25
    strong = by["strong"]["input_tokens"] * 0.66 + by["strong"]["output_tokens"] * 3.96
    wanted = (cheap.sum() + strong[gone].sum()) / len(test) / 1000
    shown = cards(page)["cost"]
    assert float(shown.removeprefix("$")) == pytest.approx(wanted, rel=0.006)
    assert shown in row(page, home)[3]
    assert "other prices" in page.locator("#explorer-state").inner_text()
    assert "usd=0.17,0.25,0.66,3.96" in page.evaluate("location.hash")
    page.reload()
    assert cards(page)["cost"] == shown
    page.locator("#explorer-reset").click()
    assert page.locator("#price-2").input_value() == "1.32"


@pytest.mark.parametrize("text", ["-1", ""])
def test_a_price_that_cannot_be_used_is_marked_and_the_state_says_so(page: Page, text: str) -> None:
    before, field = cards(page), page.locator("#price-2")
    page.locator("#explorer-prices summary").click()
    plain = field.evaluate("e => getComputedStyle(e).borderTopStyle")
    field.fill(text)
    assert field.get_attribute("aria-invalid") == "true"
    assert field.evaluate("e => getComputedStyle(e).borderTopStyle") != plain
    assert "not a price" in page.locator("label[for=price-2]").evaluate("e => getComputedStyle(e, '::after').content")
    state = page.locator("#explorer-state").inner_text()
    assert "a price that cannot be used" in state
    assert "certified" not in state
    assert cards(page) == before
    page.locator("#explorer-reset").click()
    assert field.get_attribute("aria-invalid") == "false"
    assert field.input_value() == "1.32"
    assert "recommended threshold" in page.locator("#explorer-state").inner_text()


def test_that_the_policy_was_copied_is_said_beside_the_button(page: Page, made: Made) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("details:has(#policy-yaml) > summary").click()
    button = page.get_by_role("button", name="Copy YAML")
    button.click()
    said = page.get_by_text("Copied.")
    said.wait_for()
    assert said.get_attribute("role") == "status"
    assert page.get_by_text("Copied.").count() == 1
    at, told = button.bounding_box(), said.bounding_box()
    assert at is not None
    assert told is not None
    assert abs(told["y"] + told["height"] / 2 - at["y"] - at["height"] / 2) < at["height"]
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#policy-yaml").text_content()


def test_the_address_restores_prices_alone_and_is_cleaned_of_what_says_nothing(page: Page, made: Made) -> None:
    before = cards(page)
    page.goto(f"{url(made)}#usd=0.17,0.25,0.66,3.96")
    assert page.locator("#price-2").input_value() == "0.66"
    assert cards(page)["cost"] != before["cost"]
    assert cards(page)["quality"] == before["quality"]
    for nothing in ("#t=", "#t=abc", "#t=&usd=", "#usd=1,x,-1,2"):
        page.goto(f"{url(made)}#t=all")
        assert cards(page) != before
        page.goto(url(made) + nothing)
        assert (cards(page), page.evaluate("location.hash")) == (before, ""), nothing


def test_emptying_the_address_by_hand_goes_back_to_the_recommendation(page: Page, made: Made) -> None:
    before = cards(page)
    page.goto(f"{url(made)}#t=all&usd=0.17,0.25,0.66,3.96")
    explored = cards(page)
    page.goto(f"{url(made)}#trust")
    assert cards(page) == explored != before
    page.evaluate("location.hash = ''")
    until(page, "!document.getElementById('explorer-reset').matches(':enabled')")
    assert cards(page) == before
    assert page.locator("#price-2").input_value() == "1.32"


@pytest.mark.parametrize(
    ("which", "scheme", "width"),
    [
        pytest.param("certified", "dark", 390, marks=pytest.mark.slow),
        pytest.param("judge", "light", 1280, marks=pytest.mark.slow),
        ("index", "light", 390),
        pytest.param("index", "dark", 1280, marks=pytest.mark.slow),
        pytest.param("uncertified", "light", 390, marks=pytest.mark.slow),
        pytest.param("people", "dark", 1280, marks=pytest.mark.slow),
        pytest.param("strong_only", "dark", 390, marks=pytest.mark.slow),
        pytest.param("optimized", "light", 390, marks=pytest.mark.slow),
        pytest.param("unlabeled", "dark", 1280, marks=pytest.mark.slow),
        pytest.param("certificate", "light", 1280, marks=pytest.mark.slow),
        pytest.param("certificate", "dark", 390, marks=pytest.mark.slow),
        pytest.param("comparison", "light", 390, marks=pytest.mark.slow),
        pytest.param("comparison", "dark", 1280, marks=pytest.mark.slow),
        *(
            pytest.param(name, ("light", "dark")[i % 2], (390, 1280)[i // 2 % 2], marks=pytest.mark.slow)
            for i, name in enumerate(
                ("check_data", "cheap_only", "accepted", "enriched", "choose", "table", "sampled", "pooled")
            )
        ),
    ],
)  # axe alone takes about three seconds a page on an idle machine
def test_axe_finds_nothing_and_nothing_overflows(
    browser: Browser, recorded: Recorded, tmp_path: Path, which: str, scheme: Literal["dark", "light"], width: int
) -> None:
    of_a_run = which not in ("index", "certificate", "comparison")
    made = recorded(which if of_a_run else "certified")
    path = {"index": made.folder / "reports" / "index.html", "certificate": made.report / "certificate.html"}.get(
        which, made.report / "report.html"
    )
    if which == "comparison":
        path, made = tmp_path / "comparison.html", made.copied(tmp_path)
        assert made.command("evaluate", "--set", "target.within=0.08") == 0
        before = recorded("certified").artefact("decision.json").parent.name
        (first,) = made.folder.glob(f"runs/*/*/{before}")
        other = ("--set", "target.within=0.08", "--html", str(path))
        assert made.command("compare", str(first), *other) == 0
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True
    )  # the page's own policy forbids the checker
    opened = context.new_page()
    opened.goto(path.as_uri() + ("#t=0.5" if of_a_run else ""))
    opened.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    opened.add_script_tag(path=AXE)
    found = opened.evaluate(
        "async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3)])"
    )
    assert found == []
    wide = opened.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] <= wide[1]
    context.close()


def test_the_explorer_works_by_touch(browser: Browser, made: Made) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, reduced_motion="reduce")
    opened = context.new_page()
    opened.goto(url(made))
    slider, last = opened.locator("#explorer-range"), len(columns(made)["threshold"]) - 1
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    at = {share: box["x"] + share * box["width"] for share in (0.25, 0.75)}
    y = box["y"] + box["height"] / 2
    opened.touchscreen.tap(at[0.25], y)
    tapped = int(slider.input_value())
    assert tapped == pytest.approx(0.25 * last, abs=0.04 * last)
    assert cards(opened)["escalation"] in row(opened, tapped)[1]
    assert opened.evaluate("location.hash") == f"#t={columns(made)['threshold'][tapped]}"
    finger = context.new_cdp_session(opened)
    places = [at[0.25] + k / 8 * (at[0.75] - at[0.25]) for k in range(9)]
    for kind, x in (("touchStart", places[0]), *(("touchMove", x) for x in places[1:])):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    dragged = int(slider.input_value())
    assert dragged == pytest.approx(0.75 * last, abs=0.04 * last)
    assert cards(opened)["escalation"] in row(opened, dragged)[1]
    assert opened.locator("#explorer-state").inner_text() in ("also certified", "explored, not certified")
    context.close()


def test_without_script_verdict_figure_and_tables_are_there(browser: Browser, made: Made) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    opened = context.new_page()
    opened.goto(url(made))
    assert opened.locator(".badge").first.is_visible()
    assert opened.locator("#figure-decide svg").is_visible()
    assert opened.locator("#sweep-table tbody tr").count() == len(columns(made)["threshold"])
    for part in ("#explorer", "#chart", "#volume", "#token-filter", "button"):
        assert not opened.locator(part).first.is_visible(), part
    opened.locator("[data-token]").first.focus()
    assert opened.locator("[data-token] .alts").first.is_visible()
    context.close()


def test_the_report_prints_on_eight_pages_and_the_certificate_on_one(browser: Browser, made: Made) -> None:
    context = browser.new_context(color_scheme="dark")
    opened = context.new_page()
    for name, most in (("report.html", 8), ("certificate.html", 1)):
        opened.goto((made.report / name).as_uri())
        pdf = opened.pdf(format="A4", prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= most, name
    context.close()


def test_on_paper_every_column_keeps_its_head_and_no_heading_stands_over_nothing(page: Page, made: Made) -> None:
    page.emulate_media(media="print")
    heads = page.evaluate(
        """() => [...document.querySelectorAll("thead th")].filter(h => h.textContent.trim() && h.getClientRects().length)
            .map(h => [h.textContent.trim(), h.innerText.trim()])"""
    )
    assert len(heads) > 20
    assert [full for full, shown in heads if not shown] == []
    titles = page.evaluate(
        """() => [...document.querySelectorAll("main h3")].filter(h => h.getClientRects().length).map(h => {
            let next = h.nextElementSibling
            while (next && !next.getClientRects().length) next = next.nextElementSibling
            return [h.innerText.trim(), next ? next.tagName : null]
        })"""
    )
    assert [title for title, tag in titles if tag in (None, "H2", "H3")] == []


def test_printing_while_exploring_prints_the_figures_of_the_run(page: Page, made: Made) -> None:
    start = page.locator("#sweep-table").inner_text(), marker(page)
    page.goto(f"{url(made)}#t=all&usd=0.17,0.25,0.66,3.96")
    explored = page.locator("#sweep-table").text_content()
    page.evaluate(
        """() => addEventListener("beforeprint", () => { window.printed = [
            document.getElementById("sweep-table").textContent, document.getElementById("explored-note").hidden ]; })"""
    )
    page.pdf(format="A4")
    text, unsaid = page.evaluate("window.printed")
    page.goto(url(made))
    assert unsaid
    assert text != explored
    assert start[1] == marker(page)


@pytest.mark.slow
def test_served_over_http_nothing_else_is_asked_for(browser: Browser, made: Made) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012 - one server, one list

        def log_message(self, format: str, *args: object) -> None:
            self.asked.append(self.path)

    handler = functools.partial(Quiet, directory=str(made.folder / "reports"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        opened.get_by_role("link", name="certified").first.click()
        opened.wait_for_selector("#explorer:visible")
        opened.locator("#explorer-range").press("ArrowLeft")
        context.close()
        server.shutdown()
    page = "/" + (made.report / "report.html").relative_to(made.folder / "reports").as_posix()
    assert [p for p in Quiet.asked if p != "/favicon.ico"] == ["/index.html", page]


@pytest.mark.slow
def test_hostile_names_and_texts_yield_no_live_node(browser: Browser, recorded: Recorded) -> None:
    made = recorded("hostile")
    targets = (made.report / "report.html", made.report / "certificate.html", made.folder / "reports" / "index.html")
    context = browser.new_context()
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    for target in targets:
        opened.goto(target.as_uri())
        assert opened.evaluate("window.pwned") is None
        assert opened.locator("img, iframe, object, embed, [onload], [onerror], [onfocus], [autofocus]").count() == 0
        assert opened.locator("style").count() == 1
        assert opened.locator("h1").is_visible()
    assert complaints == []
    context.close()
