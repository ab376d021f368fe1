"""The claim, re-run: how often does a rule for the threshold break its promise, and what does it cost?

    python scripts/compare_rules.py                     # 500 resamples of everything that is at hand
    python scripts/compare_rules.py --resamples 50 S1   # some of it, quickly

A case is a table of (confidence, cheap right, strong right, dollars): a bundled task, a pair of recorded models (where
REAL_DATA_DIR is set), or a population with a known law. Its empirical law is taken for the truth. Each resample draws
labeled rows from it with replacement, every rule sets its threshold on these same rows, and the truth says whether the
cascade is worse than the strong model alone by more than was promised. Rules that promise nothing are held to the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pipeline.collect.task_input import TaskInput  # noqa: E402
from pipeline.config.options import Options  # noqa: E402
from pipeline.config.yaml_file import load  # noqa: E402
from pipeline.decide.certify import certify_match_strong  # noqa: E402
from pipeline.decide.curves.text_router import cross_fitted_scores  # noqa: E402
from pipeline.decide.purchase import purchase  # noqa: E402
from pipeline.decide.sampling import Sampling  # noqa: E402
from pipeline.decide.testing.binomial import upper_bound  # noqa: E402
from scripts.sampled_calls import GOAL, rows_of  # noqa: E402

Floats = npt.NDArray[np.float64]

WITHIN, DELTA, ROWS = GOAL.limit, GOAL.delta, 1000
LAW = 50_000
"""Rows that stand for a population whose law is continuous."""
NORMAL_90 = 1.2816
COIN = 0.25
BUNDLED = ("email_triage", "content_moderation", "retrieval_relevance", "autocomplete_ranking")
PAIRS = ("mmlu_gpt4o", "mmlu_llama")
POPULATIONS = ("S1", "S2", "S3", "S4", "S5")
CHEAP_USD, STRONG_USD = 0.0001, 0.002
"""Dollars of a request to each model of a population, for which no tokens are counted."""


@dataclass(frozen=True)
class Case:
    """Rows of one case, (n,) each; `router`: predicted chance that the cheap model errs, from the text alone."""

    name: str
    confidence: Floats
    cheap: Floats
    strong: Floats
    cheap_usd: Floats
    strong_usd: Floats
    router: Floats | None = None

    def __len__(self) -> int:
        return len(self.confidence)

    def take(self, which: npt.NDArray[np.intp]) -> Case:
        """Some of the rows, as often as they are named."""
        fields = (self.confidence, self.cheap, self.strong, self.cheap_usd, self.strong_usd)
        return Case(self.name, *(f[which] for f in fields), router=None if self.router is None else self.router[which])


@dataclass(frozen=True)
class Choice:
    """What a rule chose: a score of the rows, the least of it that is kept, and the strong answers that it took."""

    score: str
    least: float | None
    strong_calls: int
    by_lot: float | None = None
    """Share kept, picked by lot."""


def _losses_from_the_surest(case: Case, score: Floats) -> tuple[Floats, Floats]:
    """Distinct scores, largest first, and the loss against the strong model when all rows from there on are kept."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return ordered[ends], np.cumsum((case.strong - case.cheap)[order])[ends] / len(score)


def fixed(case: Case, rng: np.random.Generator) -> Choice:
    """0.85, whatever the task."""
    return Choice("confidence", 0.85, 0)


def quantile(case: Case, rng: np.random.Generator) -> Choice:
    """The least confident fifth goes to the strong model."""
    return Choice("confidence", float(np.quantile(case.confidence, 0.2)), 0)


def best_looking(case: Case, rng: np.random.Generator, score: str = "confidence") -> Choice:
    """The threshold that keeps most among those whose loss on the rows is within what is promised."""
    values = -case.router if score == "router" else case.confidence
    at, loss = _losses_from_the_surest(case, values)
    good = np.flatnonzero(loss <= WITHIN)
    return Choice(score, float(at[good[-1]]) if len(good) else None, len(case))


def router(case: Case, rng: np.random.Generator) -> Choice:
    """The best-looking threshold on the prediction from the text alone; nothing is asked of the cheap model first."""
    return best_looking(case, rng, "router")


def by_lot(case: Case, rng: np.random.Generator) -> Choice:
    """As many as must be escalated by lot for the loss on the rows to be within what is promised."""
    loss = float((case.strong - case.cheap).mean())
    return Choice("lot", None, len(case), by_lot=min(1.0, WITHIN / loss) if loss > 0 else 1.0)


def clopper_pearson(case: Case, rng: np.random.Generator) -> Choice:
    """The threshold that keeps most among those whose losses have a bound within what is promised, one threshold at a time."""
    order = np.argsort(-case.confidence, kind="stable")
    ordered = case.confidence[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    lost = np.cumsum(((case.cheap == 0) & (case.strong == 1))[order])[ends]
    good = np.flatnonzero(upper_bound(lost, len(case), DELTA) <= WITHIN)
    return Choice("confidence", float(ordered[ends[good[-1]]]) if len(good) else None, len(case))


def pointwise(case: Case, rng: np.random.Generator) -> Choice:
    """The threshold that keeps most among those whose 90 % limit of the loss is within what is promised, each by itself."""
    order = np.argsort(-case.confidence, kind="stable")
    ordered, lost = case.confidence[order], (case.strong - case.cheap)[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    mean, square = (np.cumsum(x)[ends] / len(case) for x in (lost, lost**2))
    good = np.flatnonzero(mean + NORMAL_90 * np.sqrt((square - mean**2) / len(case)) <= WITHIN)
    return Choice("confidence", float(ordered[ends[good[-1]]]) if len(good) else None, len(case))


def mapie(case: Case, rng: np.random.Generator) -> Choice:
    """MAPIE's risk control with its default thresholds and correction: kept answers that only the strong model has right."""
    from mapie.risk_control import BinaryClassificationController, BinaryRisk

    lost = BinaryRisk(lambda y, kept: (y == 0) & (kept == 1), lambda y, kept: np.ones(len(y), dtype=bool), False)
    kept_share = BinaryRisk(lambda y, kept: kept == 1, lambda y, kept: np.ones(len(y), dtype=bool), True)
    peer = BinaryClassificationController(
        lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk=lost,
        target_level=WITHIN,
        confidence_level=1 - DELTA,
        best_predict_param_choice=kept_share,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when nothing is controlled
        peer.calibrate(case.confidence[:, None], 1 - ((case.cheap == 0) & (case.strong == 1)).astype(int))
    found = peer.best_predict_param
    return Choice("confidence", None if found is None else float(np.ravel(found)[0]), len(case))


def ours(case: Case, rng: np.random.Generator) -> Choice:
    """The certified threshold, all rows in one pool."""
    found = certify_match_strong(case.confidence, case.cheap, case.strong, within=WITHIN, delta=DELTA)
    return Choice("confidence", found.threshold, len(case))


def ours_sampled(case: Case, rng: np.random.Generator) -> Choice:
    """The certified threshold from a part of the strong answers: `strong: {sample: 0.25}`."""
    rows = rows_of(case.confidence, case.cheap, case.strong)
    done = purchase(rows, rng.random(len(case)), Sampling(COIN, COIN, f"{COIN:g}"), GOAL)
    return Choice("confidence", done.threshold, sum(why is not None for why in done.wanted))


RULES: dict[str, Callable[[Case, np.random.Generator], Choice]] = {
    "fixed 0.85": fixed,
    "least confident fifth": quantile,
    "best-looking threshold": best_looking,
    "random escalation": by_lot,
    "text-only router": router,
    "pointwise 90 % bound on the loss": pointwise,
    "pointwise Clopper-Pearson, losses only": clopper_pearson,
    "MAPIE risk control": mapie,
    "certified": ours,
    "certified, strong answers sampled": ours_sampled,
}


def truth(case: Case, choice: Choice) -> tuple[float, float, float, float]:
    """Loss against the strong model, escalated share, accuracy, dollars per 1,000 requests: of the law."""
    if choice.by_lot is not None:
        kept: Floats = np.full(len(case), choice.by_lot)
    elif choice.least is None:
        kept = np.zeros(len(case))
    else:
        score = -case.router if choice.score == "router" and case.router is not None else case.confidence
        kept = (score >= choice.least).astype(np.float64)
    asked = kept if choice.score == "router" else np.ones(len(case))
    usd = asked * case.cheap_usd + (1 - kept) * case.strong_usd
    right = kept * case.cheap + (1 - kept) * case.strong
    return (
        float(case.strong.mean() - right.mean()),
        float(1 - kept.mean()),
        float(right.mean()),
        1000 * float(usd.mean()),
    )


def compared(case: Case, resamples: int, seed: int, rows: int) -> list[dict[str, Any]]:
    """One record per rule."""
    out = []
    for name, rule in RULES.items():
        if rule is router and case.router is None:
            continue
        found = []
        for number in range(resamples):
            rng = np.random.default_rng([seed, number])  # the same rows for every rule
            drawn = case.take(rng.integers(0, len(case), rows))
            choice = rule(drawn, rng)
            found.append((*truth(case, choice), choice.strong_calls))
        loss, escalated, accuracy, usd, calls = (np.array(x) for x in zip(*found, strict=True))
        out.append(
            {
                "case": case.name,
                "rule": name,
                "broken": float((loss > WITHIN + 1e-12).mean()),
                "escalation": float(escalated.mean()),
                "accuracy": float(accuracy.mean()),
                "strong_accuracy": float(case.strong.mean()),
                "usd_per_1000": float(usd.mean()),
                "strong_calls": float(calls.mean()),
                "resamples": resamples,
                "rows": rows,
            }
        )
    return out


def population(name: str) -> Case:
    """One with a known law, as a large draw of it."""
    from populations import Population

    draw = Population(name).draw(LAW, np.random.default_rng([7, int(name[1:])]))
    return Case(name, draw.confidence, draw.cheap, draw.strong, np.full(LAW, CHEAP_USD), np.full(LAW, STRONG_USD))


def evaluated(config: Path, folder: Path) -> Case:
    """A config's rows, evaluated once in a folder of its own."""
    where = ["--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet", "--json"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipeline",
            "evaluate",
            str(config),
            *where,
            "--set",
            "signal=first_token",
            "--set",
            "dataset.split=pooled",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 4):
        raise SystemExit(f"{config}: {done.stderr}")
    told = json.loads(done.stdout)
    decision = folder / "runs" / told["task"] / told["run_id"] / told["decision_id"]
    found = pd.read_parquet(decision / "predictions.parquet")

    texts = TaskInput(load(config), Options()).texts or {}
    group = found["group"].to_numpy(object)
    right = [pd.to_numeric(found[c]).fillna(0).to_numpy(np.float64) for c in ("cheap_correct", "strong_correct")]
    usd = [pd.to_numeric(found[c]).to_numpy(np.float64) for c in ("cheap_usd", "strong_usd")]
    usd = [np.where(np.isnan(u), np.nanmean(u), u) for u in usd]
    score = cross_fitted_scores([texts[i] for i in found["example_id"]], 1 - right[0], group, seed=0)
    confidence = np.nan_to_num(pd.to_numeric(found["confidence"]).to_numpy(np.float64))
    return Case(config.stem if config.stem != "config" else config.parent.name, confidence, *right, *usd, router=score)


def cases(wanted: Iterable[str], folder: Path) -> Iterator[Case]:
    """What is at hand, in the order of the table."""
    real = os.environ.get("REAL_DATA_DIR")
    for name in wanted or (*BUNDLED, *PAIRS, *POPULATIONS):
        if name in POPULATIONS:
            yield population(name)
        elif name in PAIRS:
            if real:
                yield evaluated(Path(real) / "recorded" / name / "config.yaml", folder)
        else:
            yield evaluated(ROOT / "configs" / f"{name}.yaml", folder)


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: one line per case and rule."""
    lines = [
        "| case | rule | promise broken | escalated | accuracy (strong model) | $ per 1,000 requests | strong answers bought |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['case']} | {r['rule']} | {r['broken']:.1%} | {r['escalation']:.1%} | {r['accuracy']:.1%} ({r['strong_accuracy']:.1%}) "
        f"| {r['usd_per_1000']:.3f} | {r['strong_calls']:.0f} |"
        for r in found
    ]
    return "\n".join(lines) + "\n"


def summary(found: list[dict[str, Any]]) -> str:
    """Markdown: one line per rule over all cases. Clearly above 10 %: by more than three standard errors of the simulation."""
    lines = [
        "| rule | highest rate of broken promises | clearly above 10 % | mean escalation rate | mean strong answers bought |",
        "|---|--:|--:|--:|--:|",
    ]
    for rule in dict.fromkeys(r["rule"] for r in found):
        of = [r for r in found if r["rule"] == rule]
        worst = max(of, key=lambda r: r["broken"])
        limit = DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / worst["resamples"])
        lines.append(
            f"| {rule} | {worst['broken']:.0%} ({worst['case']}) | {sum(r['broken'] > limit for r in of)} of {len(of)} cases "
            f"| {np.mean([r['escalation'] for r in of]):.1%} | {np.mean([r['strong_calls'] for r in of]):.0f} |"
        )
    return "\n".join(lines) + "\n"


def picture(found: list[dict[str, Any]], path: Path) -> None:
    """One dot per case: how often each rule broke the promise, against the 10 % allowed."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    rules = list(dict.fromkeys(r["rule"] for r in found))[::-1]
    mpl.rcParams.update({"svg.hashsalt": "compare-rules", "font.size": 10})
    figure, ax = plt.subplots(figsize=(7.2, 0.42 * len(rules) + 1.1), layout="constrained")
    for place, rule in enumerate(rules):
        of = [r["broken"] for r in found if r["rule"] == rule]
        colour = "#0072B2" if rule.startswith("certified") else "#D55E00"
        ax.plot(of, np.full(len(of), place), "o", color=colour, alpha=0.65, markersize=7, markeredgewidth=0)
    ax.axvline(DELTA, color="#444444", linewidth=1, linestyle="--")
    ax.text(DELTA + 0.01, len(rules) - 0.45, "allowed: 10 %", fontsize=9, color="#444444")
    ax.set(
        yticks=range(len(rules)),
        yticklabels=rules,
        xlim=(-0.03, 1.03),
        ylim=(-0.6, len(rules) - 0.1),
        xlabel=f"share of {found[0]['resamples']} resamples in which the promise was broken (one dot per case)",
    )
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", help="bundled tasks, recorded pairs or populations; left out: all")
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--rows", type=int, default=ROWS, help="labeled rows of a resample")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--svg", type=Path, help="draw the picture to this file")
    parser.add_argument("--markdown", type=Path, help="write both tables to this file")
    arguments = parser.parse_args()
    since = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(arguments.workers) as pool:
        work = partial(compared, resamples=arguments.resamples, seed=20, rows=arguments.rows)
        found = [r for records in pool.map(work, cases(arguments.case, Path(scratch))) for r in records]
    taken = f"{arguments.resamples} resamples of {arguments.rows} labeled rows, promise: no more than {WITHIN:.0%} below the strong model at 90 % certainty; {time.monotonic() - since:.0f} s."
    text = f"{summary(found)}\n{taken}\n\n{table(found)}"
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(text, "utf-8")
    if arguments.svg:
        picture(found, arguments.svg)


if __name__ == "__main__":
    main()
