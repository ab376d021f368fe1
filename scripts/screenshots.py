"""Pictures of a written report for the README: first screen light and dark, the explorer, a telephone, the index.

    python scripts/screenshots.py [--task email_triage] [--reports-dir reports] [--out docs/images]

Needs a report (`make evaluate TASK=email_triage`) and chromium (`make browser`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def shoot(
    browser: Browser,
    url: str,
    path: Path,
    *,
    width: int,
    height: int,
    scheme: Literal["light", "dark"],
    at: str | None = None,
) -> None:
    """One picture; `at` is the id of the element at the top of it."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(url)
    if at is not None:
        page.locator(f"#{at}").evaluate("e => scrollTo(0, e.getBoundingClientRect().top + scrollY - 60)")
    page.screenshot(path=path)
    # a palette is enough for a page of flat colours, and a third of the size
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    context.close()
    print(path)


def main() -> int:
    """Take all pictures. Returns 2 with a message when the report or the browser is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="email_triage")
    parser.add_argument("--reports-dir", type=Path, default=Path("reports"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    latest = options.reports_dir / options.task / "latest.json"
    chromium = shutil.which("chromium")
    if not latest.is_file():
        print(f"{latest} is not there; run `make evaluate TASK={options.task}` first", file=sys.stderr)
        return 2
    if chromium is None:
        print("chromium is not installed; run `make browser` first", file=sys.stderr)
        return 2
    named = json.loads(latest.read_text("utf-8"))
    report = (latest.parent / named["run_id"] / named["decision_id"] / "report.html").resolve().as_uri()
    index = (options.reports_dir / "index.html").resolve().as_uri()
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        out = options.out
        shoot(browser, report, out / "report-light.png", width=1280, height=900, scheme="light")
        shoot(browser, report, out / "report-dark.png", width=1280, height=900, scheme="dark")
        shoot(browser, report, out / "explorer.png", width=1280, height=960, scheme="light", at="decide")
        shoot(browser, report, out / "trust.png", width=1280, height=960, scheme="light", at="trust")
        shoot(browser, report, out / "report-phone.png", width=390, height=844, scheme="light", at="verdict")
        shoot(browser, index, out / "index.png", width=1280, height=640, scheme="light")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
