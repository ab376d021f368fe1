"""Play a month of production in a folder, and watch it every night: what happened on each day, and the verdict it got.

    python scripts/month_of_production.py FOLDER [--seed 1] [--no-fault]

Logs are rotated every night and compressed after two; lines arrive one to five times, in no order; on day 8 a crash tears a
line, on days 10 to 13 requests are harder, on day 15 one reply comes from another model, and from day 20 on accepted answers are
wrong 15 % of the time instead of 3 %, at the same confidence. One accepted answer in five is labeled. Prints one JSON line a night.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import math
import random
import sys
from pathlib import Path

from cascade_threshold.decision_log import appender
from cascade_threshold.signals import SIGNALS
from pipeline.__main__ import main as command
from pipeline.decide.monitor_facts import monitor_facts
from pipeline.deliver.formats.policy_document import policy_document

TASK, CHEAP, THRESHOLD, REQUESTS = "email_triage", "small-model", 0.9, 240
GOOD, BAD, LABELED = 0.03, 0.15, 0.2
CRASH, HARDER, STRAY, FAULT = 8, range(10, 14), 15, 20


def confidence(rng: random.Random, easy: float) -> float:
    """An easy and a hard part on the log-odds, as confidences are."""
    odds = rng.gauss(6, 1.6) if rng.random() < easy else rng.gauss(1.2, 1.2)
    return 1 / (1 + math.exp(-odds))


def policy(folder: Path, seed: int) -> str:
    """Write the policy of a calibration with 2,000 rows; its digest."""
    rng = random.Random(seed)
    seen = [confidence(rng, 0.7) for _ in range(2000)]
    facts = monitor_facts(
        confidence=seen,
        statuses=["ok"] * len(seen),
        threshold=THRESHOLD,
        delta=0.1,
        target={"kind": "accepted_accuracy", "at_least": 0.95},
    )
    document = policy_document(
        task=TASK,
        kind="classify",
        provider="together",
        verdict="certified",
        threshold=THRESHOLD,
        signal={"name": "first_token", "version": SIGNALS["first_token"].version, "params": {}},
        calibrator=None,
        labels=["work", "personal", "spam", "other"],
        cheap={"model": CHEAP, "response_models_seen": [CHEAP]},
        strong={"model": "large-model"},
        prompt_sha256=None,
        dataset_sha256=None,
        expected=None,
        certificate={"target": {"kind": "accepted_accuracy", "at_least": 0.95}, "delta": 0.1},
        monitor=facts,
        versions={},
    )
    (folder / "policy.json").write_text(json.dumps(document), "utf-8")
    return str(document["digest"])


def day_of_lines(day: int, digest: str, rng: random.Random, *, fault: bool) -> list[str]:
    """One day's lines in the order in which they were delivered."""
    lines, wrong = [], BAD if fault and day >= FAULT else GOOD
    for i in range(REQUESTS):
        c = confidence(rng, 0.55 if day in HARDER else 0.7)
        stray = day == STRAY and i == 7
        kept = c >= THRESHOLD and not stray
        line = {
            "time": f"2026-11-{day:02d}T{i // 10:02d}:{i % 10 * 6:02d}:00.000+00:00",
            "id": f"{day}-{i}",
            "policy": digest[:16],
            "model": "another-model" if stray else CHEAP,
            "status": "ok",
            "action": "accept" if kept else "escalate",
            "confidence": c,
            "threshold": THRESHOLD,
            "answer": "spam" if kept else None,
        }
        if kept and rng.random() < LABELED:
            line["label"] = "work" if rng.random() < wrong else "spam"
        lines += [json.dumps(line) + "\n"] * rng.choice((1, 1, 1, 2, 5))
    rng.shuffle(lines)
    return lines


def rotate(folder: Path) -> None:
    """decisions.log -> decisions.log.1 -> decisions.log.2.gz and so on, as logrotate does it."""
    for n in range(40, 1, -1):
        path = folder / f"decisions.log.{n}.gz"
        if path.exists():
            path.rename(folder / f"decisions.log.{n + 1}.gz")
    first, current = folder / "decisions.log.1", folder / "decisions.log"
    if first.exists():
        (folder / "decisions.log.2.gz").write_bytes(gzip.compress(first.read_bytes()))
        first.unlink()
    if current.exists():
        current.rename(first)


def watch(folder: Path) -> tuple[int, dict[str, object]]:
    """The nightly command: its exit code and its report."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = command(
            [
                "monitor",
                "--policy",
                str(folder / "policy.json"),
                "--log",
                str(folder / "decisions.log*"),
                "--days",
                "4",
                "--require-labels",
                "--json",
            ]
        )
    return code, json.loads(out.getvalue())


def main() -> None:
    """Play the month."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--no-fault", action="store_true", help="accepted answers stay as good as they were")
    args = arguments.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rng, digest = random.Random(args.seed), policy(args.folder, args.seed + 1)
    for day in range(1, 31):
        rotate(args.folder)
        log = args.folder / "decisions.log"
        for i, line in enumerate(day_of_lines(day, digest, rng, fault=not args.no_fault)):
            if day == CRASH and i == 100:
                with log.open("ab") as handle:
                    handle.write(line.encode()[:60])  # the process dies here; the next one opens the log anew
            appender(log)(line)
        code, report = watch(args.folder)
        lines, labels = report["lines"], report["evidence"][0]  # type: ignore[index]
        night = {
            "day": day,
            "exit": code,
            "verdict": report["verdict"],
            "judged": lines["judged"],
            "copies": lines["copy"],
            "torn": lines["torn"],
            "labels": labels["labels"],
            "errors": labels["errors"],
            "said": report["text"][0],
        }  # type: ignore[index]
        sys.stdout.write(json.dumps(night, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
