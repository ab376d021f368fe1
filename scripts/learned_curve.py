"""Whether a learned signal, with or without the text, escalates less than a named one on the same labels of a recorded task.

    python scripts/learned_curve.py FOLDER [--rows 500 1000 1800] [--draws 40]

FOLDER holds examples.jsonl, cheap.jsonl and strong.jsonl. The named signal certifies on all rows; the learned ones are fitted on
.3 of them and certify on the rest (within .02 at certainty .9). `ranks` is the AUROC of right against wrong on rows that were not fitted
on. All differences are paired: learned minus named on the same draw.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import measure
from pipeline.decide.certify import certify_match_strong
from pipeline.decide.scores.learned_model import Inputs, fit_learned, learned_features, learned_values

Floats = npt.NDArray[np.float64]
NAMED = "first_token"


def read(folder: Path) -> tuple[dict[str, Floats], npt.NDArray[np.object_], npt.NDArray[np.object_], Floats, Floats]:
    """Signals, answers and texts of the cheap model's replies, and whether each model is right."""
    examples = [json.loads(line) for line in (folder / "examples.jsonl").read_text("utf-8").strip().split("\n")]
    answers = AnswerSet.classify(sorted({e["label"] for e in examples}))
    found: dict[str, list[object]] = {}
    for role in ("cheap", "strong"):
        lines = map(json.loads, (folder / f"{role}.jsonl").read_text("utf-8").strip().split("\n"))
        by = {line["custom_id"]: json.dumps(line["response"]["body"]).encode() for line in lines}
        found[role] = [measure(by[e["id"]], answers, role=role) for e in examples]
    signals: dict[str, Floats] = {}
    for name in found["cheap"][0].signals:
        column = [m.signals.get(name) for m in found["cheap"]]
        signals[name] = np.array([np.nan if v is None else v for v in column], dtype=np.float64)
    said = np.array([m.answer for m in found["cheap"]], dtype=object)
    texts = np.array([e.get("text") or e.get("question") or e.get("prompt") for e in examples], dtype=object)
    right = [np.array([m.answer == e["label"] for m, e in zip(found[r], examples, strict=True)], float) for r in found]
    return signals, said, texts, right[0], right[1]


def escalated(confidence: Floats, cheap: Floats, strong: Floats) -> float:
    """Share escalated at the certified threshold, 1 where there is none."""
    return certify_match_strong(confidence, cheap, strong, within=0.02, delta=0.1).escalation_rate


def main() -> None:
    """Print one line per number of labels and way to learn."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--rows", type=int, nargs="+", default=[500, 1000, 1800])
    arguments.add_argument("--draws", type=int, default=40)
    given = arguments.parse_args()
    signals, said, texts, cheap, strong = read(given.folder)
    features = learned_features(signals)
    ways = {
        "signals": Inputs(features),
        "signals, answer": Inputs(features, said),
        "signals, answer, text": Inputs(features, said, texts),
    }
    print("rows | reads | ranks (s.e.) | escalated (s.e.), both as learned minus named")
    for n in given.rows:
        moved: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        base = []
        for seed in range(given.draws):
            rng = np.random.default_rng([seed, n])
            picked = rng.permutation(len(cheap))[:n]
            fit, rest = picked[: round(0.3 * n)], picked[round(0.3 * n) :]
            named = signals[NAMED]
            usual = escalated(named[picked], cheap[picked], strong[picked])
            known = rest[~np.isnan(named[rest])]
            ranks = roc_auc_score(cheap[known], named[known])
            base.append((ranks, usual))
            for way, inputs in ways.items():
                numbers = fit_learned(inputs.take(fit), cheap[fit], seed=seed)
                if numbers is None:
                    continue
                values = learned_values(numbers, inputs.take(rest))
                good = ~np.isnan(values) & ~np.isnan(named[rest])
                learned = roc_auc_score(cheap[rest][good], values[good])
                moved[way].append((learned - ranks, escalated(values, cheap[rest], strong[rest]) - usual))
        print(f"{n} | named | {np.mean([b[0] for b in base]):.3f} | {np.mean([b[1] for b in base]):.3f}", flush=True)
        for way, pairs in moved.items():
            mean, error = np.mean(pairs, axis=0), np.std(pairs, axis=0) / len(pairs) ** 0.5
            print(f"{n} | {way} | {mean[0]:+.3f} ({error[0]:.3f}) | {mean[1]:+.3f} ({error[1]:.3f})", flush=True)


if __name__ == "__main__":
    main()
