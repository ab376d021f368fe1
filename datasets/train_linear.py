"""Fit the demonstration models of a task that a tiny transformer does not learn in a few minutes, and write them as .npz.

Tried before: transformers of 20,000 to 200,000 parameters reached .70 on retrieval_relevance after 15 minutes and guessed
on autocomplete_ranking.

    python datasets/train_linear.py retrieval_relevance --role cheap

Hashed TF-IDF features and scikit-learn's logistic regression; served by pipeline/demo/linear_lm.py, whose
features these are. `classify` looks at a text, `judge` at a pair of texts, `choose` at each option with its context.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from lessons import about, answers, asked, check, generator, write  # noqa: E402

from pipeline.config.task import TaskConfig  # noqa: E402
from pipeline.config.yaml_file import find, load  # noqa: E402
from pipeline.demo.linear_lm import KIND, examined, hashed, template_pattern  # noqa: E402

EXAMINES = {"classify": "text", "judge": "pair", "choose": "options"}


class Size(NamedTuple):
    """Rows to learn from, places in the hash table, inverse strength of the penalty, seed of the rows."""

    rows: int
    places: int
    inverse_penalty: float
    seed: int


# The cheap models see fewer rows and forget more of them: different words share a place in a smaller table.
SIZES = {
    "retrieval_relevance": {"cheap": Size(16000, 2**16, 20.0, 1), "strong": Size(70000, 2**18, 30.0, 2)},
    "autocomplete_ranking": {"cheap": Size(9000, 2**14, 10.0, 1), "strong": Size(24000, 2**16, 30.0, 2)},
}


def features(
    sets: Sequence[set[str]], places: int, idf: np.ndarray | None = None
) -> tuple[sparse.csr_array, np.ndarray]:
    """TF-IDF rows of unit length, and the idf they were made with (from these rows unless given)."""
    parts = [hashed(names, places) for names in sets]
    starts = np.concatenate([[0], np.cumsum([len(at) for at, _ in parts])])
    columns, counts = np.concatenate([at for at, _ in parts]), np.concatenate([count for _, count in parts])
    if idf is None:
        seen = np.bincount(columns, minlength=places)
        idf = (np.log((1 + len(sets)) / (1 + seen)) + 1).astype(np.float16).astype(np.float64)
    values = counts * idf[columns]
    norms = np.sqrt(np.add.reduceat(values**2, starts[:-1]))
    values /= np.repeat(norms, np.diff(starts))
    return sparse.csr_array((values, columns, starts), shape=(len(sets), places)), idf


def fit(config: TaskConfig, rows: Sequence[dict[str, Any]], size: Size) -> dict[str, np.ndarray]:
    """Weights, intercept and idf for rows with the columns of the task's dataset."""
    assert config.prompt is not None
    assert config.dataset is not None
    known, label = answers(config), str(config.dataset.label)
    pattern, what = template_pattern(config.prompt.user), EXAMINES[config.kind]
    sets: list[set[str]] = []
    targets: list[int] = []
    for row in rows:
        found = examined(what, pattern, asked(config, row)[-1]["content"])
        sets += found
        right = known.index(row[label])
        targets += [int(place == right) for place in range(len(found))] if what == "options" else [right]
    table, idf = features(sets, size.places)
    model = LogisticRegression(C=size.inverse_penalty, max_iter=500).fit(table, targets)
    assert list(model.classes_) == sorted(set(range(2 if what == "options" else len(known))))
    arrays = {"weights": model.coef_, "intercept": model.intercept_, "idf": idf}
    return {name: value.astype(np.float16) for name, value in arrays.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help=f"{' or '.join(SIZES)}, or the path of a config of one of them")
    parser.add_argument("--role", choices=("cheap", "strong"), required=True)
    parser.add_argument("--output", type=Path, help="default: datasets/<task>/models/<role>.npz")
    for field, kind in Size.__annotations__.items():
        parser.add_argument(f"--{field}", type=kind, help="default: the role's own")
    arguments = parser.parse_args()
    config = load(find(arguments.task))
    assert config.prompt is not None
    if config.task not in SIZES:
        parser.error(f"task {config.task} is not trained here but in train_tiny.py; here: {', '.join(SIZES)}")
    size = SIZES[config.task][arguments.role]
    size = size._replace(**{f: v for f in Size._fields if (v := getattr(arguments, f)) is not None})
    arrays = fit(config, generator(config.task).train_rows(size.seed, size.rows), size)
    metadata = {
        **about(config, arguments.role, {"script": "datasets/train_linear.py", **size._asdict()}),
        "kind": KIND,
        "examines": EXAMINES[config.kind],
        "answers": answers(config),
        "user": config.prompt.user,
        "parameters": sum(value.size for value in arrays.values()),
    }
    path = arguments.output or HERE / config.task / "models" / f"{arguments.role}.npz"
    write(path, arrays, metadata)
    print(json.dumps(check(path, config)))


if __name__ == "__main__":
    main()
