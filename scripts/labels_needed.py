"""Whether the number of further labels that a failed run names certifies: the table of docs/how-the-promise-works.md.

    python scripts/labels_needed.py [--rows 150 600] [--at-least 0.95 | --within 0.02] [--runs 48] [--truth] [--recorded FOLDER ...]

Draws rows of the tests' populations S1, S3 and S4, or of recorded tasks (folders with examples.jsonl, cheap.jsonl and
strong.jsonl, drawn with replacement). Where they certify nothing at certainty .9 the number of further labels is planned, and
so many fresh rows are added three times. With --truth it also says what a planner would name that knows the population: the number
that certifies in four of five of these runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from sampled_calls import recorded, rows_of

from pipeline.decide.certify import certify
from pipeline.decide.predictions import Rows
from pipeline.decide.target import Goal
from pipeline.decide.testing.sample_size import Further, labels_needed

Drawing = Callable[[int, np.random.Generator], Rows]
TRIES, MOST = 3, 40


def joined(one: Rows, other: Rows) -> Rows:
    """Both, the others under names of their own."""
    named = np.array([f"further {i}" for i in range(len(other))], dtype=object)
    other = replace(other, group=named, example_id=named)
    return Rows(**{name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in vars(one)})


def outcomes(draw: Drawing, goal: Goal, n: int, runs: int) -> Iterator[tuple[Further, list[bool]]]:
    """For each run of `n` rows that fails: what is planned, and whether adding so many fresh rows certifies."""
    for run in range(runs):
        rng = np.random.default_rng([n, run])
        rows = draw(n, rng)
        plan = labels_needed(rows, goal, certificate=certify(rows, goal, seed=0), seed=run)
        if plan is not None:
            tries = 0 if plan.rows is None else TRIES
            further = plan.rows or 0
            grown = (joined(rows, draw(further, rng)) for _ in range(tries))
            yield plan, [certify(more, goal, seed=0).threshold is not None for more in grown]


def truly_needed(draw: Drawing, goal: Goal, n: int, runs: int) -> int | None:
    """The number of further rows with which four of five runs of `n` rows that failed certify; None up to `MOST` times as many."""
    failed = []
    for run in range(runs):
        rng = np.random.default_rng([n, run])
        rows = draw(n, rng)
        if certify(rows, goal, seed=0).threshold is None:
            failed.append((rows, draw(MOST * n, rng)))
    further = n // 8
    while failed and further <= MOST * n:
        more = (joined(rows, fresh.take(np.arange(further))) for rows, fresh in failed)
        if np.mean([certify(each, goal, seed=0).threshold is not None for each in more]) >= 0.8:
            return further
        further = int(further * 1.2) + 1
    return None


def from_recorded(folder: Path) -> Drawing:
    """Rows of a recorded task, drawn with replacement."""
    columns = recorded(folder)

    def draw(n: int, rng: np.random.Generator) -> Rows:
        picked = rng.integers(0, len(columns[0]), n)
        return rows_of(*(column[picked] for column in columns))

    return draw


def simulated(name: str) -> Drawing:
    """Rows of one of the tests' populations."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from populations import Population

    population = Population(name)

    def draw(n: int, rng: np.random.Generator) -> Rows:
        drawn = population.draw(n, rng)
        return rows_of(drawn.confidence, drawn.cheap, drawn.strong)

    return draw


def main() -> None:
    """Print one line per population and number of rows."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, nargs="+", default=[150, 600])
    target = arguments.add_mutually_exclusive_group()
    target.add_argument("--at-least", type=float, default=0.95)
    target.add_argument("--within", type=float)
    arguments.add_argument("--runs", type=int, default=48)
    arguments.add_argument("--truth", action="store_true")
    arguments.add_argument("--recorded", type=Path, nargs="*", default=[])
    given = arguments.parse_args()
    goal = Goal("accepted_accuracy", 0.1, at_least=given.at_least)
    if given.within is not None:
        goal = Goal("match_strong", 0.1, within=given.within)
    populations = {name: simulated(name) for name in ("S1", "S3", "S4")}
    populations |= {folder.name: from_recorded(folder) for folder in given.recorded}
    titles = "population | rows | runs that fail | that name a number | median number | certified with it (s.e.)"
    print(f"{titles} | knowing the population" if given.truth else titles)
    for name, draw in populations.items():
        for n in given.rows:
            found = list(outcomes(draw, goal, n, given.runs))
            named = [(plan.rows, float(np.mean(hits))) for plan, hits in found if plan.rows is not None]
            told = "- | -"
            if named:
                certified = [hit for _, hit in named]  # of each run, whose tries share its rows
                error = float(np.std(certified)) / len(certified) ** 0.5
                told = f"{np.median([rows for rows, _ in named]):.0f} | {np.mean(certified):.2f} ({error:.2f})"
            truth = f" | {truly_needed(draw, goal, n, given.runs)}" if given.truth else ""
            print(f"{name} | {n} | {len(found)} of {given.runs} | {len(named)} | {told}{truth}", flush=True)


if __name__ == "__main__":
    main()
