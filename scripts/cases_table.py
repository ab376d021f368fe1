"""What each case of CASES_DIR gives, for one checkout or for two beside each other, as a Markdown table.

    CASES_DIR=... python scripts/cases_table.py [CHECKOUT ...] [--only PART]

Each case is run by the real command in a copy of its folder, with the code of each CHECKOUT (default: this one) and this
interpreter. The right value of each stands in the README of the cases and in tests/test_cases.py.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
LONGEST = 300
"""Seconds that one command may take."""


@dataclass(frozen=True)
class Case:
    """A folder under CASES_DIR, and what is run in it. `server`: script and its arguments around the port."""

    name: str
    commands: tuple[tuple[str, ...], ...] = (("evaluate", "c.yaml"),)
    mode: str = ""
    labels: str = "positive,negative"
    shown: str = ""


def tables(folder: str, *files: str) -> list[Case]:
    """`new` and `estimate` on a table."""
    return [
        Case(folder, (("new", "mine", "--from", file), ("estimate", "mine")), shown=f"{folder}/{file}")
        for file in files
    ]


FAILING = ("evaluate", "c.yaml", "--yes", "--set", "max_failure_rate=0.1")
CASES = [
    *map(Case, ("01/c_jbool", "01/c_think", "02/c_part", "02/c_part0", "03/c_zh")),
    Case("03/n_zh", (("doctor", "c.yaml"), ("evaluate", "c.yaml", "--yes")), "zh", "\u6b63\u9762,\u8d1f\u9762"),
    Case("04/n_waf", (FAILING,), "waf"),
    Case("05/n_p500", (FAILING,), "poison500"),
    *map(Case, ("06/u_reason", "07/ch_num", "07/ch_idx", "08/j_order_no_first", "08/j_order_yes_first")),
    Case("09", (("evaluate", "c.yaml"), ("monitor", "--policy", "POLICY", "--log", "log_int.jsonl"))),
    Case("10", (("evaluate", "m.yaml", "--predictions", "onecase.csv"),), shown="10/onecase.csv"),
    Case("10", (("evaluate", "c.yaml", "--predictions", "eps.parquet"),), shown="10/eps.parquet"),
    Case("11/r_dup"),
    *tables("12", "hyphen.csv", "spaces.csv", "reviews.csv"),
    *map(Case, ("14/r_strerr", "14/r_status0")),
    Case("16/g_few2", (("evaluate", "c.yaml", "--yes"),), "plain"),
    *tables("17", "binary.parquet"),
    Case("19/c_nullalt"),
    *tables("21", "index.csv", "trailing.csv", "noheader.csv"),
]


@contextmanager
def serving(case: Case, cases: Path, ledger: Path) -> Iterator[dict[str, str]]:
    """The case's chat server on a free port, as environment for the command; nothing where the case needs none."""
    if not case.mode:
        yield {}
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(cases / "chat_server.py"), case.mode, str(port), str(ledger), case.labels]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield {"TOGETHER_API_KEY": "no-key", "TOGETHER_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    finally:
        server.kill()
        server.wait()


def outcome(case: Case, cases: Path, checkout: Path) -> str:
    """Exit codes of the commands, the last one's verdict or error, and requests sent."""
    with tempfile.TemporaryDirectory() as made:
        folder, ledger = Path(made) / "case", Path(made) / "ledger"
        shutil.copytree(cases / case.name, folder)
        for packed in folder.glob("*.gz"):
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        (folder / "configs").mkdir()
        if case.name == "16/g_few2" and not (folder / "rows.jsonl").exists():
            rows = [
                {
                    "id": f"r{i}",
                    "text": f"message {i}",
                    "label": ("positive", "negative")[i % 2],
                    "lang": ("de", "en", "fr")[i % 3],
                }
                for i in range(300)
            ]
            (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        codes, said = [], ""
        with serving(case, cases, ledger) as env:
            for words in case.commands:
                policies = sorted((folder / "runs").rglob("policy.json"))
                command = [str(policies[0]) if w == "POLICY" and policies else w for w in words]
                try:
                    done = subprocess.run(
                        [sys.executable, "-m", "pipeline", *command],
                        cwd=folder,
                        capture_output=True,
                        text=True,
                        timeout=LONGEST,
                        env=os.environ | {"PYTHONPATH": str(checkout)} | env,
                        check=False,
                    )
                except subprocess.TimeoutExpired:
                    codes.append("does not end")
                    continue
                codes.append(str(done.returncode))
                said = told(done.stdout, done.stderr) or said
        sent = f" ({len(ledger.read_text('utf-8').splitlines())} requests)" if ledger.exists() else ""
    return f"exit {', '.join(codes)}{sent}: {said}"


def told(out: str, err: str) -> str:
    """The line that a person would read first."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in (err + "\n" + out).splitlines()]
    for pattern in (r"Traceback", r"error: ", r"[A-Z][A-Z ]{4,}: ", r"promise", r"wrote |\w+ \(\w+\): [\d,]+ rows"):
        if found := [line for line in lines if re.match(pattern, line)]:
            return (lines[-1] if pattern == "Traceback" else found[0])[:230].replace("|", "\\|")
    return next((line for line in lines if line), "")[:230]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("checkout", nargs="*", type=Path, help="checkouts to compare; default: this one")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args(arguments)
    if "CASES_DIR" not in os.environ:
        parser.error("set CASES_DIR to the folder of the cases")
    cases, checkouts = Path(os.environ["CASES_DIR"]), [c.resolve() for c in args.checkout] or [HERE]
    print("| case | " + " | ".join(c.name for c in checkouts) + " |\n|---|" + "---|" * len(checkouts), flush=True)
    for case in CASES:
        if args.only in (case.shown or case.name):
            print(
                f"| {case.shown or case.name} | {' | '.join(outcome(case, cases, c) for c in checkouts)} |", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
