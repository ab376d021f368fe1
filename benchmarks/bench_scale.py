"""From recorded replies, or a table of predictions, to the report: seconds, CPU, peak memory and growth of each stage.

    python benchmarks/bench_scale.py [--rows 10000 100000] [--predictions 10000 100000] [--workers N] [--without-plain]

Each size runs in a process of its own on invented data (scale_data.py). CPU counts working processes too; memory is the
largest of the process so far, without those of --workers (default 1: this process does all the work). The exponent is that of CPU between the two largest sizes
that were run: 1 is linear, and what every run takes whatever its size pulls it below. Beside it, `plain` is a straightforward
pandas and scikit-learn script of the same work: replies or table to probabilities, a logistic calibration, accuracy and cost
with bootstrap bands at 100 thresholds, the exact test along them, and one figure.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STAGES = ("start", "collect", "graded", "measure", "calibrate", "certified", "sweep", "recommend", "report", "rest")


def used() -> tuple[float, float, float]:
    """Wall clock, CPU of this process and its children in seconds, and this process's peak memory in MB."""
    times = os.times()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.monotonic(), times.user + times.system + times.children_user + times.children_system, peak


def ours(kind: str, folder: Path, workers: int | None) -> dict[str, list[float]]:
    """Each stage's seconds, CPU seconds and the peak in MB when it ended."""
    before = used()
    from pipeline.run import garbage

    garbage.give_back()  # this and the next as the command line does
    gc.set_threshold(*garbage.RARELY)
    from pipeline import stages
    from pipeline.collect.sending.spend_cap import Allowance
    from pipeline.collect.task_input import TaskInput
    from pipeline.config import yaml_file
    from pipeline.config.options import Options

    found: dict[str, list[float]] = {}

    def note(name: str, since: tuple[float, float, float]) -> None:
        now = used()
        old = found.get(name, [0.0, 0.0, 0.0])
        found[name] = [old[0] + now[0] - since[0], old[1] + now[1] - since[1], now[2]]

    def watched(name: str) -> None:
        stage = getattr(stages, name)

        def run(*given: Any, **named: Any) -> Any:
            since, inner = used(), {n: list(v) for n, v in found.items()}
            result = stage(*given, **named)
            note(name, since)
            for other, values in found.items():  # what a stage within this one took is that one's
                if other != name:
                    for i in (0, 1):
                        found[name][i] -= values[i] - inner.get(other, [0.0, 0.0, 0.0])[i]
            return result

        setattr(stages, name, run)

    for name in STAGES[1:-1]:
        watched(name)
    out = tempfile.mkdtemp(dir=folder)
    table = folder / "table.parquet" if kind == "predictions" else None
    options = Options(
        runs_dir=Path(out) / "runs", reports_dir=Path(out) / "reports", predictions=table, quiet=True, workers=workers
    )
    config = yaml_file.load(folder / ("scale.yaml" if table is None else "scale_table.yaml"))
    note("start", before)
    with stages.one_thread():
        stages.evaluate(TaskInput(config, options), Allowance())
    end = used()
    told = [sum(values[i] for values in found.values()) for i in (0, 1)]
    found["rest"] = [*(end[i] - before[i] - told[i] for i in (0, 1)), end[2]]  # reading the rows, above all
    return found


def plain(kind: str, folder: Path) -> dict[str, list[float]]:
    """What a notebook would do."""
    before = used()
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    import pandas as pd
    from matplotlib import pyplot
    from scipy.stats import binom
    from sklearn.linear_model import LogisticRegression

    if kind == "predictions":
        frame = pd.read_parquet(folder / "table.parquet")
        frame["p"] = frame["confidence"]
    else:
        frame = pd.read_json(folder / "rows.jsonl", lines=True).set_index("id")
        answers: dict[str, list[Any]] = {"cheap": [], "strong": []}
        for role in answers:
            with (folder / f"{role}.jsonl").open() as lines:
                for line in lines:
                    value = json.loads(line)
                    body = value["response"]["body"]
                    choice = body["choices"][0]
                    tokens = (choice.get("logprobs") or {}).get("content")
                    said = choice["message"]["content"].strip()
                    mass = {t["token"]: math.exp(t["logprob"]) for t in tokens[0]["top_logprobs"]} if tokens else {}
                    labels = [mass.get(y, 0.0) for y in ("billing", "shipping", "returns", "other")]
                    p = mass.get(said, 0.0) / sum(labels) if tokens else None
                    usage = body["usage"]
                    answers[role].append(
                        (value["custom_id"], said, p, usage["prompt_tokens"], usage["completion_tokens"])
                    )
            part = pd.DataFrame(answers[role], columns=["id", "said", "p", "input", "output"]).set_index("id")
            frame = frame.join(part.add_prefix(f"{role}_"))
        frame["p"] = frame["cheap_p"]
        frame["cheap_correct"] = frame["cheap_said"] == frame["label"]
        frame["strong_correct"] = frame["strong_said"] == frame["label"]
        frame["cheap_usd"] = (frame["cheap_input"] + frame["cheap_output"]) * 0.1e-6
        frame["strong_usd"] = frame["strong_input"] * 2e-6 + frame["strong_output"] * 8e-6
    model = LogisticRegression().fit(frame[["p"]], frame["cheap_correct"])
    frame["calibrated"] = model.predict_proba(frame[["p"]])[:, 1]
    rng, rows = np.random.default_rng(0), []
    cheap, strong = frame["cheap_correct"].to_numpy(), frame["strong_correct"].to_numpy()
    resamples = [rng.integers(0, len(frame), len(frame)) for _ in range(20)]
    for threshold in np.quantile(frame["p"], np.linspace(0, 1, 100)):
        kept = (frame["p"] >= threshold).to_numpy()
        right = np.where(kept, cheap, strong)
        lost, won = int((kept & strong & ~cheap).sum()), int((kept & cheap & ~strong).sum())
        bands = np.quantile([right[draw].mean() for draw in resamples], [0.05, 0.95])
        usd = 1000 * (frame["cheap_usd"].mean() + (frame["strong_usd"] * ~kept).mean())
        rows.append((threshold, kept.mean(), right.mean(), *bands, usd, binom.cdf(lost, max(lost + won, 1), 0.5)))
    table = pd.DataFrame(rows)
    pyplot.plot(table[5], table[2])
    pyplot.savefig(folder / "plain.svg")
    now = used()
    return {"all": [now[0] - before[0], now[1] - before[1], now[2]]}


def measured(what: str, kind: str, rows: int, folder: Path, workers: int | None) -> dict[str, list[float]]:
    """One size in a process of its own."""
    words = [sys.executable, __file__, "--one", what, kind, str(folder), str(workers or 0)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what}, {kind}, {rows:,} rows:\n{done.stderr}")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def shown(
    kind: str, sizes: list[int], found: list[dict[str, list[float]]], beside: list[dict[str, list[float]]]
) -> None:
    """A Markdown table: a row per stage, three columns per size."""
    print(f"\n{kind}: seconds / CPU seconds / peak MB\n")
    print("| stage |" + "".join(f" {n:,} rows |" for n in sizes) + " exponent |")
    print("|---|" + "---:|" * (len(sizes) + 1))
    names = [name for name in STAGES if any(name in one for one in found)]
    for name in names:
        line([one.get(name) for one in found], name, sizes)
    line(
        [[*(sum(v[i] for v in one.values()) for i in (0, 1)), max(v[2] for v in one.values())] for one in found],
        "**all**",
        sizes,
    )
    if beside:
        line([one["all"] for one in beside], "plain", sizes)


def line(values: list[list[float] | None], name: str, sizes: list[int]) -> None:
    cells = ["–" if v is None else f"{v[0]:.1f} / {v[1]:.1f} / {v[2]:,.0f}" for v in values]
    exponent, last = "", [v for v in values if v is not None]
    if len(last) > 1 and min(last[-1][1], last[-2][1]) > 0.05:
        exponent = f"{math.log(last[-1][1] / last[-2][1]) / math.log(sizes[-1] / sizes[-2]):.2f}"
    print(f"| {name} | " + " | ".join(cells) + f" | {exponent} |")


def main(arguments: argparse.Namespace) -> None:
    if arguments.one:
        what, kind, folder, workers = arguments.one
        run = ours(kind, Path(folder), int(workers) or None) if what == "ours" else plain(kind, Path(folder))
        print(json.dumps(run))
        return
    # only here, since it loads Arrow, which `ours` first tells where to take memory
    from scale_data import write_predictions, write_replies

    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    for kind, sizes, write in (
        ("recorded", arguments.rows, write_replies),
        ("predictions", arguments.predictions, write_predictions),
    ):
        found, beside = [], []
        for rows in sizes:
            with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
                write(Path(name), rows)
                found.append(measured("ours", kind, rows, Path(name), arguments.workers))
                if not arguments.without_plain:
                    beside.append(measured("plain", kind, rows, Path(name), None))
        if sizes:
            shown(kind, sizes, found, beside)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[10_000, 100_000], help="sizes read from recorded replies"
    )
    parser.add_argument("--predictions", type=int, nargs="*", default=[10_000, 100_000], help="sizes of tables")
    parser.add_argument("--workers", type=int, default=1, help="processes that read replies")
    parser.add_argument("--without-plain", action="store_true", help="our stages only")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    main(parser.parse_args())
