"""Real labeled text runs to its verdict, on embedded models that were trained on another part of it."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.collect.data.dataset import _hash
from pipeline.config.yaml_file import load

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "tests" / "real"
# rows to learn from and places in the hash table; a judge's words are crossed, so it needs more places
SIZES = {
    "banking77": ((600, 2**12), (2000, 2**15)),
    "sms_spam": ((60, 2**10), (1500, 2**14)),
    "moderation_openai": ((80, 2**10), (600, 2**14)),
    "email_enron_spam": ((20, 2**10), (200, 2**14)),
    "retrieval_cranfield": ((300, 2**13), (1200, 2**16)),
}
HEALTH = {"sms_spam": ("duplicate_texts", 335), "retrieval_cranfield": ("blank_texts", 4)}


def trainer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_linear", ROOT / "datasets" / "train_linear.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_linear"] = module
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("name", HEALTH)
def test_data_health_counts_what_the_source_is_known_to_hold(
    name: str, real_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """All rows, as they stand: 335 copies in sms_spam, 4 blank passages in cranfield."""
    from pipeline.collect.data.dataset import read as read_dataset

    config = load(CONFIGS / f"{name}.yaml", [f"dataset.path={real_data / 'labeled' / f'{name}.csv'}"])
    health = read_dataset(config, lambda text: {"ham": "ham", "spam": "spam"}.get(text)).health
    key, count = HEALTH[name]
    assert health[key] == count
    assert health["leaked_between_splits"] == 0 or name == "retrieval_cranfield"


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_real_text_runs_to_a_verdict(
    name: str, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next((real_data / "labeled").glob(f"{name}.*"))
    rows = sorted(read(path), key=lambda row: _hash(row["id"]))
    train_linear = trainer()
    config = load(CONFIGS / f"{name}.yaml")
    assert config.dataset is not None
    column = str(config.dataset.label)
    taught = [row | ({column: "yes" if row[column] == "1" else "no"} if config.kind == "judge" else {}) for row in rows]
    largest = max(size for size, _ in SIZES[name])
    overrides = []
    for role, (count, places) in zip(("cheap", "strong"), SIZES[name], strict=True):
        size = train_linear.Size(count, places, 10.0, 1)
        metadata = {
            **train_linear.about(config, role, size._asdict()),
            "kind": train_linear.KIND,
            "examines": train_linear.EXAMINES[config.kind],
            "answers": train_linear.answers(config),
            "user": config.prompt.user if config.prompt else "",
        }
        weights = tmp_path / f"{role}.npz"
        train_linear.write(weights, train_linear.fit(config, taught[:count], size), metadata)
        overrides += ["--set", f"{role}.weights={weights}"]
    held = tmp_path / f"rows{path.suffix}"
    if path.suffix == ".jsonl":
        held.write_text("".join(json.dumps(row) + "\n" for row in rows[largest:]), encoding="utf-8")
    else:
        with held.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows[largest:])
    capsys.readouterr()
    where = ["--runs-dir", str(tmp_path / "runs"), "--reports-dir", str(tmp_path / "reports"), "--quiet", "--json"]
    assert main(["evaluate", str(CONFIGS / f"{name}.yaml"), "--set", f"dataset.path={held}", *overrides, *where]) == 0
    result = json.loads(capsys.readouterr().out)
    record = json.loads((tmp_path / "runs" / name / result["run_id"] / "run.json").read_text())
    assert record["counts"]["used"] == len(rows) - largest
    assert sum(record["measured"]["statuses"]["cheap"].values()) == record["counts"]["used"]
    assert record["measured"]["statuses"]["cheap"]["ok"] > 0.9 * record["counts"]["used"]
    assert Path(result["report"]).stat().st_size < 600_000
    assert result["verdict"] in ("certified", "uncertified", "cheap_only", "strong_only")
    print(name, result["verdict"], result["sentence"], file=sys.stderr)
