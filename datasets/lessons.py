"""What a demonstration model is taught and how it is examined, for both ways of training."""

import importlib.util
import json
import math
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from pipeline.collect.request import lettered, letters, messages  # noqa: E402
from pipeline.config.task import TaskConfig  # noqa: E402
from pipeline.demo import weights  # noqa: E402


def generator(task: str) -> ModuleType:
    """The task's generate.py as a module."""
    path = HERE / task / "generate.py"
    spec = importlib.util.spec_from_file_location(f"generate_{task}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(config: TaskConfig, row: dict[str, Any]) -> list[dict[str, str]]:
    """The messages that the pipeline sends for a row."""
    assert config.prompt is not None
    values = {name: row[name] for name in config.prompt.columns}
    return [*messages(config.prompt, {k: lettered(v) if isinstance(v, list) else v for k, v in values.items()})]


def answers(config: TaskConfig) -> tuple[str, ...]:
    """What a model may answer; for kind choose the letters of the longest row."""
    return config.answers or letters(8)


def check(path: Path, config: TaskConfig) -> dict[str, float]:
    """Accuracy and the like of a written file on the evaluation set, by the product's inference."""
    lm = weights.load(path)
    with (HERE / config.task / "examples.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    known, right, outside, sure = answers(config), [], 0, []
    start = time.perf_counter()
    for row in rows:
        tokens = lm.generate(asked(config, row), 8, 5).tokens
        text = b"".join(t.bytes for t in tokens).decode("utf-8", "replace").strip().strip(".")
        text = next((label for label in known if label.casefold() == text.casefold()), "")
        right.append(text == row["label"])
        outside += not text
        sure.append(math.exp(tokens[0].logprob) if tokens else 0.0)
    half = np.argsort(sure, kind="stable")
    r = np.array(right)
    return {
        "rows": len(rows),
        "accuracy": round(float(r.mean()), 4),
        "lower_half": round(float(r[half[: len(r) // 2]].mean()), 4),
        "upper_half": round(float(r[half[len(r) // 2 :]].mean()), 4),
        "mean_first_token": round(float(np.mean(sure)), 4),
        "out_of_set": round(outside / len(rows), 4),
        "ms_per_call": round(1000 * (time.perf_counter() - start) / len(rows), 3),
    }


def about(config: TaskConfig, role: str, training: dict[str, Any]) -> dict[str, Any]:
    """What every weight file says of itself."""
    model = getattr(config, role)
    data = f"datasets/{config.task}/generate.py: train_rows({training['seed']}, {training['rows']})"
    return {
        "name": f"{config.task.replace('_', '-')}-{role}",
        "stands_in_for": model.model,
        "training": {**training, "data": data},
    }


def write(path: Path, arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
    """One .npz without pickles: the arrays, and metadata as JSON bytes. The same content gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays, metadata=np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), dtype=np.uint8))
    print(f"wrote {path}, {path.stat().st_size:,} bytes")
