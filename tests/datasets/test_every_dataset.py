"""What holds of every bundled dataset: reproducible bytes, distinct rows, independence of training rows."""

import importlib
import json
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKS = sorted(path.parent.name for path in (ROOT / "datasets").glob("*/generate.py"))


@pytest.fixture(scope="module", params=TASKS)
def dataset(request):
    generate = importlib.import_module(f"datasets.{request.param}.generate")
    return generate, ROOT / "datasets" / request.param


def content(row):
    """The row's texts as one normalised string, written without the project's code."""
    parts = []
    for name, value in row.items():
        if name not in ("id", "label", "answer", "style", "query_id", "topic", "surface"):
            parts += value if isinstance(value, list) else [value]
    return " ".join(unicodedata.normalize("NFKC", " ".join(parts)).casefold().split())


def test_the_bundled_file_is_what_the_generator_writes_byte_for_byte(dataset, tmp_path):
    generate, folder = dataset
    path = tmp_path / "examples.jsonl"
    generate.main(path)
    assert path.read_bytes() == (folder / "examples.jsonl").read_bytes()


def test_the_file_has_at_least_2000_rows_with_unique_ids_and_known_labels(dataset):
    generate, folder = dataset
    rows = [json.loads(line) for line in (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 2000
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["label"] for row in rows} == set(generate.LABELS)


@pytest.mark.slow
def test_no_two_evaluation_rows_are_equal_after_normalisation_and_none_is_a_training_row(dataset):
    generate, folder = dataset
    rows = [json.loads(line) for line in (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluation = {content(row) for row in rows}
    assert len(evaluation) == len(rows)
    train = [content(row) for row in generate.train_rows(1, 4000)]
    assert len(set(train)) == len(train)
    assert not evaluation & set(train)


@pytest.mark.slow
def test_draws_depend_on_the_seed_and_on_nothing_else(dataset):
    generate, _ = dataset
    assert generate.rows(5, 40) == generate.rows(5, 40)
    assert generate.rows(5, 40) != generate.rows(6, 40)
    assert generate.draw(random.Random(3)) == generate.draw(random.Random(3))
    assert generate.train_rows(0, 20) != generate.train_rows(1, 20)


def test_the_generator_runs_as_a_script_and_imports_the_standard_library_only(dataset):
    _, folder = dataset
    code = (
        "import runpy, sys; before = set(sys.modules);"
        f"runpy.run_path({str(folder / 'generate.py')!r}, run_name='imported');"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names) - {'draws', 'wording'}))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_datasheet_says_how_it_was_made_what_it_is_not_and_the_licence(dataset):
    _, folder = dataset
    sheet = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("## How it was made", "## What it is not", "Apache-2.0", "independent draw"):
        assert part in sheet
