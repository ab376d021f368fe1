"""The table of docs/reliability.md: no row is missing, and every test that it names is there and bears the row's number."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from conftest import ROOT

ROWS = 76
NAMED = re.compile(r"test_rows?_((?:\d\d_)+)")


@functools.cache
def table() -> dict[int, list[str]]:
    lines = (ROOT / "docs" / "reliability.md").read_text().splitlines()
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if re.match(r"\| \d+ \|", line)
    ]
    assert all(len(row) == 5 and all(row) for row in cells), "row, fault, what happens, what one sees, test"
    assert len({row[0] for row in cells}) == len(cells)
    return {int(row[0]): row[1:] for row in cells}


@functools.cache
def bearing() -> dict[str, set[int]]:
    """path::name of every test that bears rows in its name -> those rows."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (named := NAMED.match(node.name)):
                rows = {int(number) for number in named[1].strip("_").split("_")}
                found[f"{path.relative_to(ROOT / 'tests')}::{node.name}"] = rows
    return found


def test_every_row_of_the_matrix_is_in_the_table_and_has_a_test_named_after_it() -> None:
    assert sorted(table()) == list(range(1, ROWS + 1))
    assert set.union(*bearing().values()) == set(range(1, ROWS + 1))


@pytest.mark.parametrize("row", range(1, ROWS + 1))
def test_the_test_that_a_row_names_is_there_and_is_its_own(row: int) -> None:
    (named,) = re.findall(r"`([^`]+::[^`]+)`", table()[row][-1])
    assert row in bearing()[named]
