"""What a rate of strong.sample buys, escalates and tells: the tables of docs/fewer-strong-calls.md and of `estimate`.

    python scripts/sampled_calls.py [--rows 1000 2000] [--draws 40] [--recorded FOLDER]

Draws rows of the tests' population S1, or of a recorded task (a folder with examples.jsonl, cheap.jsonl and strong.jsonl), tosses
coins, and lets the product buy, certify (within .02 at certainty .9, all rows certify) and read the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import measure
from pipeline.decide.curves.at_threshold import Expectation
from pipeline.decide.predictions import Rows
from pipeline.decide.purchase import purchase
from pipeline.decide.sampling import Sampling
from pipeline.decide.target import Goal

RATES = (1.0, 0.5, 0.25, 0.1, 0.0)
GOAL = Goal("match_strong", 0.1, within=0.02)
Floats = npt.NDArray[np.float64]


def rows_of(confidence: Floats, cheap: Floats, strong: Floats) -> Rows:
    """Rows that all certify, each by itself."""
    n = len(confidence)

    def same(value: object) -> npt.NDArray[np.object_]:
        return np.full(n, value, dtype=object)

    names = np.array([f"row-{i}" for i in range(n)], dtype=object)
    unknown = np.full(n, np.nan)
    return Rows(
        names,
        same("certify"),
        names,
        same(None),
        same("label"),
        same("cheap"),
        same("strong"),
        confidence,
        cheap,
        strong,
        unknown,
        unknown,
        unknown,
        unknown,
        same("ok"),
    )


def recorded(folder: Path) -> tuple[Floats, Floats, Floats]:
    """Confidence of the first token, and whether each model is right, of a recorded task."""
    examples = [json.loads(line) for line in (folder / "examples.jsonl").read_text("utf-8").strip().split("\n")]
    answers = AnswerSet.classify(sorted({e["label"] for e in examples}))

    def replies(role: str) -> dict[str, bytes]:
        lines = map(json.loads, (folder / f"{role}.jsonl").read_text("utf-8").strip().split("\n"))
        return {line["custom_id"]: json.dumps(line["response"]["body"]).encode() for line in lines}

    cheap, strong, out = replies("cheap"), replies("strong"), []
    for e in examples:
        small, large = (measure(by[e["id"]], answers, role=r) for by, r in ((cheap, "cheap"), (strong, "strong")))
        confidence = small.signals["first_token"]
        out.append(
            (np.nan if confidence is None else confidence, small.answer == e["label"], large.answer == e["label"])
        )
    return tuple(np.array(out, dtype=np.float64).T)  # type: ignore[return-value]


def one(rows: Rows, q: float, coin: Floats) -> tuple[float, float, float]:
    """Share of strong answers bought, share escalated, and width of the interval of the cascade's accuracy at 90 %."""
    done = purchase(rows, coin, Sampling(q, max(q, 0.25), f"{q:g}"), GOAL)
    wanted = np.array([why is not None for why in done.wanted])
    seen = replace(rows.with_strong_of(wanted), drawn=done.drawn, strong_weight=np.nan_to_num(done.weight, nan=0.0))
    shown = Expectation(seen, done.threshold, split="certify", seed=0)
    accuracy = shown.all()["system_accuracy"]
    assert accuracy.upper is not None
    assert accuracy.lower is not None
    bought = 1.0 if q == 1 else float(wanted.mean())
    return bought, float((~shown.kept).mean()), accuracy.upper - accuracy.lower


def main() -> None:
    """Print one line per number of rows and rate: calls, escalation and width, means with the standard error of the second."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, nargs="+", default=[1000])
    arguments.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    arguments.add_argument("--draws", type=int, default=40)
    arguments.add_argument("--recorded", type=Path)
    given = arguments.parse_args()
    if given.recorded is None:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
        from populations import Population

        population = Population("S1")
    else:
        columns = recorded(given.recorded)
    print("rows rate calls escalation s.e. width")
    for n in given.rows:
        for q in given.rates:
            found = []
            for seed in range(given.draws):
                rng = np.random.default_rng([seed, n])
                if given.recorded is None:
                    d = population.draw(n, rng)
                    rows = rows_of(d.confidence, d.cheap, d.strong)
                else:
                    picked = rng.choice(len(columns[0]), n, replace=n > len(columns[0]))
                    rows = rows_of(*(column[picked] for column in columns))
                found.append(one(rows, q, rng.random(n)))
            calls, escalation, width = np.mean(found, axis=0)
            error = float(np.std([f[1] for f in found]) / given.draws**0.5)
            print(f"{n} {q:g} {calls:.3f} {escalation:.3f} {error:.3f} {width:.3f}", flush=True)


if __name__ == "__main__":
    main()
