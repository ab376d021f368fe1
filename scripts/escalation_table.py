"""What is escalated within .02 at certainty .9 by 1,000 labels, beside the first version: the table of docs/fewer-strong-calls.md.

    git worktree add /somewhere 18e0101
    python scripts/escalation_table.py --first-version /somewhere [--rows 1000] [--draws 40] [--recorded FOLDER ...]

The first version fixes its candidates on .3 of the rows, certifies on .5 and keeps .2 to test; now all rows certify, and are
sampled at a quarter in the last column. Both see the same rows. Escalation and loss are those of the population.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from populations import Population  # noqa: E402
from sampled_calls import GOAL, recorded, rows_of  # noqa: E402

from pipeline.decide.purchase import purchase  # noqa: E402
from pipeline.decide.sampling import Sampling  # noqa: E402

Floats = npt.NDArray[np.float64]
NAMES = ("S1", "S2", "S3", "S4", "S5")
FIRST = """
import sys
import numpy as np
from pipeline.decide.certify import certify_match_strong
from pipeline.decide.levels import candidate_levels
given = np.load(sys.argv[1])
found = []
for confidence, cheap, strong, part in given["rows"]:
    fit, held = part < 0.3, (part >= 0.3) & (part < 0.8)
    one = certify_match_strong(
        confidence[held], cheap[held], strong[held], within=0.02, delta=0.1, levels=candidate_levels(confidence[fit]))
    found.append(np.nan if one.threshold is None else one.threshold)
np.save(sys.argv[2], found)
"""


class Recorded:
    """A recorded pair as a population: rows are drawn from it with replacement."""

    def __init__(self, folder: Path) -> None:
        self.columns = recorded(folder)

    def rows(self, n: int, rng: np.random.Generator) -> tuple[Floats, ...]:
        picked = rng.integers(0, len(self.columns[0]), n)
        return tuple(c[picked] for c in self.columns)

    def truth(self, threshold: float | None) -> tuple[float, float]:
        """Share escalated, and accuracy lost against the strong model."""
        confidence, cheap, strong = self.columns
        kept = confidence >= (np.inf if threshold is None else threshold)
        return float(1 - kept.mean()), float((kept * (strong - cheap)).mean())


class Simulated:
    """A population of the tests."""

    def __init__(self, name: str) -> None:
        self.population = Population(name)

    def rows(self, n: int, rng: np.random.Generator) -> tuple[Floats, ...]:
        drawn = self.population.draw(n, rng)
        return drawn.confidence, drawn.cheap, drawn.strong

    def truth(self, threshold: float | None) -> tuple[float, float]:
        """Share escalated, and accuracy lost against the strong model."""
        return self.population.escalated(threshold), self.population.loss(threshold)


def thresholds(drawn: Floats, q: float, coin: Floats) -> list[float | None]:
    """What the product certifies on each draw, shape (draws, 4, n): confidence, cheap, strong, part."""
    sampling = Sampling(q, max(q, 0.25), f"{q:g}")
    return [purchase(rows_of(*rows[:3]), u, sampling, GOAL).threshold for rows, u in zip(drawn, coin, strict=True)]


def of_first_version(checkout: Path, drawn: Floats) -> list[float | None]:
    """What the first version certifies on the same draws, run in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "rows.npz", Path(folder) / "found.npy"
        np.savez(given, rows=drawn)
        code = f"import sys; sys.path.insert(0, {str(checkout)!r})\n{FIRST}"
        subprocess.run([sys.executable, "-c", code, str(given), str(found)], check=True, cwd=checkout)
        return [None if np.isnan(t) else float(t) for t in np.load(found)]


def main() -> None:
    """Print one line per population: mean escalation with its standard error, and the share of draws that break the promise."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--first-version", type=Path, required=True)
    arguments.add_argument("--rows", type=int, default=1000)
    arguments.add_argument("--draws", type=int, default=40)
    arguments.add_argument("--recorded", type=Path, nargs="*", default=[])
    given = arguments.parse_args()
    sources = {name: Simulated(name) for name in NAMES} | {f.name: Recorded(f) for f in given.recorded}
    print("population | first version | all rows certify | a quarter sampled   (escalated, s.e., broken)")
    for name, source in sources.items():
        rng = np.random.default_rng(7)
        drawn = np.array([[*source.rows(given.rows, rng), rng.random(given.rows)] for _ in range(given.draws)])
        coin = rng.random((given.draws, given.rows))
        columns = [of_first_version(given.first_version, drawn)]
        columns += [thresholds(drawn, q, coin) for q in (1.0, 0.25)]
        cells = []
        for found in columns:
            truth = np.array([source.truth(t) for t in found])
            error = truth[:, 0].std() / given.draws**0.5
            cells.append(f"{truth[:, 0].mean():.3f} {error:.3f} {np.mean(truth[:, 1] > GOAL.limit):.3f}")
        print(f"{name} | {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
