"""Code blocks of the pages: every fenced block with its language, its place and whether it says why it is not run.

A block is fenced and names its language:

sh        run in a shell that stops at the first error; the variables of one page's blocks are kept from block to block
console   lines after `$` are run, the others are what they print; `...` stands for any text
python    run by itself
yaml      keys of a config, laid over a bundled one, which must then load
json      must parse
text      shown: output, layouts, formulas

A block that cannot be run here carries `<!-- not run: REASON -->` on the line before it.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("sh", "console", "python", "yaml", "json", "text")
REASONS = {
    "key": "needs an API key and spends money",
    "server": "needs a server that somebody started",
    "host": "belongs to a service that hosts code",
    "docker": "needs docker",
    "long": "runs for minutes, and is a step of .ci/run or of a test of its own",
}
RUN_BY = {
    "docs/extending.md": "tests/test_extensions.py",
    "docs/weekly.md": "tests/test_weekly.py",
    "docs/journeys.md": "tests/test_journeys.py",
}
"""Pages whose blocks another test runs in its own way."""
_FENCE = re.compile(r"^( *)(`{3,})(\S*)\s*$")
_MARK = re.compile(r"^\s*<!-- not run: (.*?) -->\s*$")
TRACKED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\n")[:-1]
"""Every file of the project that git knows or would add."""
PAGES = sorted(
    name
    for name in TRACKED
    if name.endswith(".md") and not name.startswith(("tests/", ".github/")) and (ROOT / name).is_file()
)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order, without their indentation."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    found, i = [], 0
    while i < len(lines):
        opened = _FENCE.match(lines[i])
        if opened is None:
            i += 1
            continue
        indent, fence, language = opened.groups()
        end = next(j for j in range(i + 1, len(lines)) if lines[j].strip() == fence)
        mark = _MARK.match(lines[i - 1]) if i else None
        text = "\n".join(line.removeprefix(indent) for line in lines[i + 1 : end])
        found.append(Block(page, i + 1, language, text, mark[1] if mark else None))
        i = end + 1
    return found


def prose(page: str) -> list[tuple[int, str]]:
    """The lines of a page outside its blocks, numbered."""
    found, fence = [], None
    for number, line in enumerate((ROOT / page).read_text("utf-8").splitlines(), 1):
        opened = _FENCE.match(line)
        if fence is None and opened is not None:
            fence = opened[2]
        elif fence is not None:
            fence = None if line.strip() == fence else fence
        else:
            found.append((number, line))
    return found
