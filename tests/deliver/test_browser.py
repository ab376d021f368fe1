"""The page in a real browser: Debian's chromium driven by Playwright."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
import pytest
from deliver import artefacts
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.deliver.report import data as report_data
from pipeline.deliver.report import index
from pipeline.deliver.report import page as report
from pipeline.run import directory as names
from pipeline.run.directory import Run, dump_json, write_bytes

ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SECTIONS = ("Decide", "Trust", "Where it fails", "Data health", "Use it", "Provenance")
HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><svg onload='window.pwned=1'></svg>",
    "</style></title><img src=x onerror='window.pwned=1'>",
    "<style>body{display:none}</style>",
    "{{ 7 * 7 }}",
    "\u202egnp.exe",
    '" onfocus="window.pwned=1" autofocus tabindex="1',
    "javascript:window.pwned=1",
)


SHELF: dict[str, dict[str, Any]] = {
    **{v: {"verdict": v} for v in ("certified", "uncertified", "check_data", "cheap_only", "strong_only", "optimized")},
    "unknown": {"gold": False, "prices": False, "latency": False, "provider": "together"},
    "people": {"human": True, "provider": "together"},
}


@dataclass(frozen=True)
class Made:
    """A written page with its data."""

    run: Run
    path: Path
    data: dict[str, Any]

    @property
    def url(self) -> str:
        return self.path.as_uri()

    @property
    def columns(self) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = self.data["decide"]["sweep"]["columns"]
        return columns


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


def write(folder: Path, **changes: Any) -> Made:
    run, config = artefacts.write_run(folder / "runs", **changes)
    path = report.write(run, config, folder / "reports", texts=artefacts.texts_of(run))
    return Made(run, path, json.loads(path.with_name("report.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return write(tmp_path_factory.mktemp("browser"), rows=900, levels=512)


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
    opened.goto(made.url)
    yield opened
    assert complaints == []
    assert {url.split("#")[0] for url in requests} == {made.url}
    context.close()


def cards(page: Page) -> dict[str, str]:
    found = page.locator("[data-explored]").evaluate_all("all => all.map(e => [e.dataset.explored, e.textContent])")
    return dict(found)


def row(page: Page, index: int) -> list[str]:
    return page.locator("#sweep-table tbody tr").nth(index).locator("th, td").all_inner_texts()


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
    assert "explored value, not certified" in page.locator("#explorer-state").inner_text()
    assert page.locator("#explorer-output").inner_text() == repr(made.columns["threshold"][home + 3])
    cells = row(page, home + 3)
    assert cards(page)["escalation"] == cells[1].split("\n")[0].split("[")[0].strip()
    assert page.locator("#sweep-table tr.explored th").inner_text() == cells[0]
    assert "everything" not in page.locator("#explorer-range").get_attribute("aria-valuetext")
    assert page.locator("#explored-note").is_visible()
    hashed = page.evaluate("location.hash")
    assert hashed == f"#t={made.columns['threshold'][home + 3]}"
    page.keyboard.press("End")
    assert cards(page)["escalation"].replace("\u00a0", " ") == "100 %"  # straight to the strong model
    assert page.evaluate("location.hash") == "#t=all"
    assert marker(page) != start
    page.locator("nav.sections a[href='#trust']").press("Enter")  # a link within the page leaves the address its values
    until(page, "Math.abs(document.getElementById('trust').getBoundingClientRect().top) < 200")
    assert page.evaluate("[location.hash, document.activeElement.id]") == ["#t=all", "trust"]
    page.goto(made.url + hashed)
    assert page.locator("#explorer-output").inner_text() == repr(made.columns["threshold"][home + 3])
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


def test_the_marker_lies_on_the_drawn_curve(page: Page, made: Made) -> None:
    """The star of the recommendation is drawn by matplotlib, the ring is placed by the script: their centres agree."""
    boxes = page.evaluate(
        """() => {
          const ring = document.getElementById("explored-marker").getBoundingClientRect();
          const stars = [...document.querySelectorAll("#figure-decide use")].map(u => u.getBoundingClientRect());
          const middle = b => [b.x + b.width / 2, b.y + b.height / 2];
          return [middle(ring), stars.map(middle)];
        }"""
    )
    ring, others = boxes
    assert min(abs(x - ring[0]) + abs(y - ring[1]) for x, y in others) < 2.5


def test_other_prices_are_worked_out_from_tokens(page: Page, made: Made) -> None:
    """Against the token counts of the replies: a strong model at half its input price."""
    page.locator("#explorer-prices summary").click()
    page.locator("#price-2").fill("0.66")
    home = made.data["decide"]["sweep"]["recommended"]
    predictions, replies = made.run.read_table(names.PREDICTIONS), made.run.read_table(names.REPLIES)
    test = predictions[predictions["split"] == "test"]
    by = {r: replies[replies["role"] == r].set_index("example_id").loc[test["example_id"]] for r in ("cheap", "strong")}
    gone = ~(test["confidence"].to_numpy() >= made.columns["threshold"][home])
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
    page.goto(f"{made.url}#usd=0.17,0.25,0.66,3.96")
    assert page.locator("#price-2").input_value() == "0.66"
    assert cards(page)["cost"] != before["cost"]
    assert cards(page)["quality"] == before["quality"]
    for nothing in ("#t=", "#t=abc", "#t=&usd=", "#usd=1,x,-1,2"):
        page.goto(f"{made.url}#t=all")
        assert cards(page) != before
        page.goto(made.url + nothing)
        assert (cards(page), page.evaluate("location.hash")) == (before, ""), nothing


def test_emptying_the_address_by_hand_goes_back_to_the_recommendation(page: Page, made: Made) -> None:
    before = cards(page)
    page.goto(f"{made.url}#t=all&usd=0.17,0.25,0.66,3.96")
    explored = cards(page)
    page.goto(f"{made.url}#trust")
    assert cards(page) == explored != before
    page.evaluate("location.hash = ''")
    until(page, "!document.getElementById('explorer-reset').matches(':enabled')")
    assert cards(page) == before
    assert page.locator("#price-2").input_value() == "1.32"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """report.json for every verdict and where most is unknown, and the index of them."""
    folder = tmp_path_factory.mktemp("shelf")
    for k, (scene, changes) in enumerate(SHELF.items()):
        started = f"2026-11-23T{k:02d}:00:00Z"
        run, config = artefacts.write_run(folder / "runs", task=scene, started=started, rows=300, levels=12, **changes)
        data = report_data.build(run, config, texts=artefacts.texts_of(run))
        write_bytes(folder / "reports" / scene / run.run_id / "report.json", dump_json(data))
    index.refresh(folder / "reports")
    return folder / "reports"


@pytest.mark.parametrize(
    ("which", "scheme", "width"),
    [
        ("certified", "dark", 390),
        ("check_data", "light", 1280),
        ("index", "light", 390),
        ("index", "dark", 1280),
        pytest.param("unknown", "light", 390, marks=pytest.mark.slow),
        pytest.param("people", "dark", 1280, marks=pytest.mark.slow),
        pytest.param("strong_only", "dark", 390, marks=pytest.mark.slow),
        pytest.param("optimized", "light", 390, marks=pytest.mark.slow),
    ],
)  # axe alone takes about three seconds a page on an idle machine
def test_axe_finds_nothing_and_nothing_overflows(
    browser: Browser, shelf: Path, which: str, scheme: Literal["dark", "light"], width: int
) -> None:
    path = shelf / "index.html"
    if which != "index":
        (source,) = (shelf / which).glob("*/report.json")
        path = source.with_name("report.html")
        path.write_text(report.render(json.loads(source.read_text("utf-8"))), "utf-8")
    url = path.as_uri() + ("" if which == "index" else "#t=0.5")
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True
    )  # the page's own policy forbids the checker
    opened = context.new_page()
    opened.goto(url)
    opened.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    opened.add_script_tag(path=AXE)
    found = opened.evaluate(
        "async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3)])"
    )
    assert found == []
    wide = opened.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] <= wide[1]
    context.close()


def test_on_a_telephone_drawings_stay_legible_and_rows_keep_their_names(browser: Browser, made: Made) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, reduced_motion="reduce")
    opened = context.new_page()
    opened.goto(made.url)
    sizes = opened.locator("figure svg text").evaluate_all(
        "all => all.map(t => [t.getScreenCTM(), t]).map(([m, t]) => parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b))"
    )
    assert len(sizes) > 50
    assert min(sizes) > 9.5
    assert opened.evaluate("document.documentElement.scrollWidth") == 390
    plate = opened.locator("#figure-decide .plate")
    plate.focus()
    opened.keyboard.press("ArrowRight")
    until(opened, "document.querySelector('#figure-decide .plate').scrollLeft > 0")
    widths = opened.locator("main tbody th:visible").evaluate_all("all => all.map(th => th.clientWidth)")
    assert min(widths) > 90, "no name stands one letter below the other"
    table = opened.locator("[aria-label='Results by label']")
    left = "e => e.querySelector('tbody th').getBoundingClientRect().left - e.getBoundingClientRect().left"
    start = table.evaluate(left)
    assert table.evaluate("e => { e.scrollLeft = 150; return e.scrollLeft; }") == 150
    assert table.evaluate(left) == start
    context.close()


def test_the_explorer_works_by_touch(browser: Browser, made: Made) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, reduced_motion="reduce")
    opened = context.new_page()
    opened.goto(made.url)
    slider, last = opened.locator("#explorer-range"), len(made.columns["threshold"]) - 1
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    at = {share: box["x"] + share * box["width"] for share in (0.25, 0.75)}
    y = box["y"] + box["height"] / 2
    opened.touchscreen.tap(at[0.25], y)
    tapped = int(slider.input_value())
    assert tapped == pytest.approx(0.25 * last, abs=0.04 * last)
    assert cards(opened)["escalation"] in row(opened, tapped)[1]
    assert opened.evaluate("location.hash") == f"#t={made.columns['threshold'][tapped]}"
    finger = context.new_cdp_session(opened)
    places = [at[0.25] + k / 8 * (at[0.75] - at[0.25]) for k in range(9)]
    for kind, x in (("touchStart", places[0]), *(("touchMove", x) for x in places[1:])):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    dragged = int(slider.input_value())
    assert dragged == pytest.approx(0.75 * last, abs=0.04 * last)
    assert cards(opened)["escalation"] in row(opened, dragged)[1]
    assert "not certified" in opened.locator("#explorer-state").inner_text()
    context.close()


def test_without_script_verdict_threshold_and_sweep_are_there(browser: Browser, made: Made) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    opened = context.new_page()
    opened.goto(made.url)
    assert opened.get_by_text("Certified", exact=True).first.is_visible()
    assert opened.get_by_text(f"below {made.data['verdict']['threshold']}").first.is_visible()
    marked = opened.locator("#sweep-table tr.recommended")
    assert marked.is_visible()
    assert opened.locator("#sweep-table tbody tr").count() == len(made.columns["threshold"])
    assert not opened.locator("#explorer").is_visible()
    assert not opened.locator("button").first.is_visible()
    context.close()


def test_on_paper_every_section_is_kept(browser: Browser, made: Made) -> None:
    context = browser.new_context(color_scheme="dark")
    opened = context.new_page()
    opened.goto(made.url)
    opened.emulate_media(media="print")
    for section in opened.locator("main > section").all():
        assert section.is_visible()
    assert opened.locator("#policy-yaml").is_visible()
    assert opened.locator("#sweep-table tr.recommended").is_visible()
    assert not opened.locator("#explorer").is_visible()
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pdf = opened.pdf(format="A4", tagged=True, outline=True, prefer_css_page_size=True)
    titles = re.findall(rb"/Title \(([^)]*)\)", pdf)
    for name in SECTIONS:
        assert any(name.encode() in title for title in titles), name
    assert any(b"Certified" in title for title in titles)
    context.close()


def test_paper_says_how_many_rows_it_leaves_out_and_holds_the_config(page: Page, made: Made) -> None:
    assert "On paper" not in page.locator("main").inner_text()
    assert "on paper" not in page.locator("main").inner_text()
    page.emulate_media(media="print")
    thresholds = page.locator("#sweep-table")
    among = re.search(r"On paper one row in (\d+),", thresholds.locator("caption").inner_text())
    assert among
    total = len(made.columns["threshold"])
    shown = thresholds.locator("tbody tr:visible").count()
    wanted = {*range(0, total, int(among[1])), made.data["decide"]["sweep"]["recommended"], total - 1}
    assert shown == len(wanted) < 30 < total
    mistakes = page.locator("details:has([aria-label='Most confident mistakes'])")
    assert "on paper the first 8" in mistakes.locator("summary").inner_text()
    assert mistakes.locator("tbody tr:visible").count() == 8 < len(made.data["failures"]["mistakes"])
    config = page.locator("details:has(> summary:text('Config'))")
    assert config.locator("pre").is_visible()
    assert 'task: "email_triage"' in config.inner_text()


def test_long_names_leave_every_column_on_the_sheet(browser: Browser, tmp_path: Path) -> None:
    """A table that is wider than A4 would be cut there, and all of the page made smaller."""
    long = tuple(f"{i}_complaint_about_an_order_that_never_arrived_in_time" for i in range(12))
    run, config = artefacts.write_run(tmp_path / "runs", levels=20, rows=600, labels=long, segments=long)
    data = json.loads(dump_json(report_data.build(run, config, texts=artefacts.texts_of(run))))
    path = tmp_path / "report.html"
    path.write_text(report.render(data, {}), "utf-8")
    context = browser.new_context(viewport={"width": 695, "height": 1000})  # 210 mm without the margins
    opened = context.new_page()
    opened.goto(path.as_uri())
    opened.emulate_media(media="print")
    opened.evaluate("document.querySelectorAll('details.print').forEach(d => { d.open = true; })")
    assert opened.locator("table.matrix thead th").count() == 13
    assert opened.evaluate("document.documentElement.scrollWidth") == 695
    context.close()


def test_printing_while_exploring_prints_the_figures_of_the_run(page: Page, made: Made) -> None:
    """What is on the page while it is printed, told by a listener that comes after the page's own."""
    table = page.locator("#sweep-table").inner_text()
    start = marker(page)
    page.goto(f"{made.url}#t=all&usd=0.17,0.25,0.66,3.96")
    page.locator("#price-0").fill("")
    before = cards(page), page.locator("#sweep-table").inner_text(), marker(page), page.evaluate("location.hash")
    assert before[1] != table
    page.evaluate(
        """() => {
          const ring = document.getElementById("explored-marker");
          addEventListener("beforeprint", () => { window.printed = [
            document.getElementById("sweep-table").innerText, ring.getAttribute("cx"), ring.getAttribute("cy"),
            document.querySelector("tr.explored").rowIndex, document.getElementById("explored-note").hidden,
            document.querySelector("details.print:not([open])") === null,
          ]; });
        }"""
    )
    page.evaluate("document.querySelectorAll('details.print').forEach(d => { d.open = false; })")
    page.locator("#sweep-table").evaluate("e => { e.closest('details').open = true; }")
    page.pdf(format="A4")
    home = made.data["decide"]["sweep"]["recommended"]
    text, x, y, at, unsaid, opened = page.evaluate("window.printed")
    assert [line.split() for line in text.splitlines()] == [line.split() for line in table.splitlines()]
    assert (float(x), float(y), at, unsaid, opened) == (*start, home + 1, True, True)
    after = cards(page), page.locator("#sweep-table").inner_text(), marker(page), page.evaluate("location.hash")
    assert after == before
    assert page.locator("#price-0").input_value() == ""
    assert page.locator("details.print:not([open])").count() > 0


def test_served_over_http_nothing_else_is_asked_for(browser: Browser, made: Made) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012 - one server, one list

        def log_message(self, format: str, *args: object) -> None:
            self.asked.append(self.path)

    handler = functools.partial(Quiet, directory=str(made.path.parents[2]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        opened.get_by_role("link", name="email_triage").click()
        opened.wait_for_selector("#explorer:visible")
        opened.locator("#explorer-range").press("ArrowLeft")
        context.close()
        server.shutdown()
    assert [p for p in Quiet.asked if p != "/favicon.ico"] == [
        "/index.html",
        f"/email_triage/{made.run.run_id}/report.html",
    ]


def test_hostile_names_and_texts_yield_no_live_node(browser: Browser, tmp_path: Path) -> None:
    run, config = artefacts.write_run(
        tmp_path / "runs", levels=20, rows=300, labels=HOSTILE, segments=HOSTILE, cheap=HOSTILE[1], strong=HOSTILE[2], description=HOSTILE[0]
    )  # fmt: skip
    texts = {i: HOSTILE[k % len(HOSTILE)] for k, i in enumerate(artefacts.texts_of(run))}
    path = report.write(run, config, tmp_path / "reports", texts=texts)
    context = browser.new_context()
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    for target in (path, tmp_path / "reports" / "index.html"):
        opened.goto(target.as_uri())
        assert opened.evaluate("window.pwned") is None
        assert opened.locator("img, iframe, object, embed, [onload], [onerror], [onfocus], [autofocus]").count() == 0
        assert opened.locator("style").count() == 1
        assert opened.locator("h1").is_visible()
        assert opened.get_by_text("<script>window.pwned=1</script>").first.is_visible()
    assert complaints == []
    context.close()
