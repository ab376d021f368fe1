"""The list of mutations is current: each would change the code as it is, and names tests that are there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MUTATIONS = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text("utf-8"))["mutation"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[m["name"] for m in MUTATIONS])
def test_a_mutation_applies_at_exactly_one_place(mutation: dict[str, object]) -> None:
    text = (ROOT / str(mutation["file"])).read_text("utf-8")
    assert text.count(str(mutation["old"])) == 1
    assert mutation["new"] != mutation["old"]
    assert all((ROOT / str(test).split("::")[0]).is_file() for test in mutation["tests"])  # type: ignore[attr-defined]


def test_no_two_mutations_share_a_name() -> None:
    assert len({m["name"] for m in MUTATIONS}) == len(MUTATIONS) >= 40
