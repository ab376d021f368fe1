"""The ledger of looks: what is one, which rows are the same, and what all looks together may break."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.run.looks import look, sketch


def texts(start: int, n: int) -> list[str]:
    return [f"text {i}" for i in range(start, start + n)]


def test_deltas_of_looks_are_added(tmp_path: Path) -> None:
    rows = sketch(texts(0, 500))
    assert (look(tmp_path, rows, "a", 0.1).number, look(tmp_path, rows, "b", 0.05).number) == (1, 2)
    third = look(tmp_path, rows, "c", 0.2)
    assert (third.number, third.delta) == (3, pytest.approx(0.35))
    again = look(tmp_path, rows, "b", 0.05)
    assert (again.number, again.delta) == (2, pytest.approx(0.15))
    assert len((tmp_path / "looks.jsonl").read_text().splitlines()) == 3


def test_order_and_copies_change_nothing_and_one_new_row_is_another_look(tmp_path: Path) -> None:
    assert look(tmp_path, sketch(texts(0, 500)), "a", 0.1).number == 1
    assert look(tmp_path, sketch([*reversed(texts(0, 500)), "text 3"]), "a", 0.1).number == 1
    assert look(tmp_path, sketch(texts(0, 501)), "a", 0.1).number == 2
    assert look(tmp_path, sketch(texts(10_000, 500)), "a", 0.1).number == 1


@pytest.mark.parametrize("size", [40, 800, 30_000])
@pytest.mark.parametrize(("shared", "related"), [(0.02, False), (0.2, True), (1.0, True)])
def test_sets_that_share_a_tenth_of_the_smaller_are_related(
    tmp_path: Path, size: int, shared: float, related: bool
) -> None:
    small = 200
    look(tmp_path, sketch(texts(0, size)), "a", 0.1)
    least = min(small, size)
    other = texts(0, round(shared * least)) + texts(10**6, small - round(shared * least))
    assert look(tmp_path, sketch(other), "b", 0.1).number == (2 if related else 1)


def test_a_bad_byte_is_told_with_its_line(tmp_path: Path) -> None:
    look(tmp_path, sketch(texts(0, 5)), "a", 0.1)
    path = tmp_path / "looks.jsonl"
    path.write_bytes(path.read_bytes() + b'{"rows": ["\xff"], "question": "x"}\n')
    with pytest.raises(UsageError, match=r"looks\.jsonl, line 2"):
        look(tmp_path, sketch(texts(0, 5)), "b", 0.1)


def test_looks_of_an_older_version_count_at_the_usual_delta(tmp_path: Path) -> None:
    rows = sketch(texts(0, 50))
    (tmp_path / "looks.jsonl").write_text(json.dumps({"rows": rows, "question": "old"}) + "\n")
    found = look(tmp_path, rows, "new", 0.05)
    assert (found.number, found.delta) == (2, pytest.approx(0.15))
    assert np.isclose(look(tmp_path, rows, "old", 0.1).delta, 0.1)
