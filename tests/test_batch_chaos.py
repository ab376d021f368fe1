"""The batch API while anything goes wrong, and the client is killed again and again: no traceback, no answer paid twice, the same artefacts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_chaos import chaos
from zygote import Zygote

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as parent:
        yield parent


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_row_25_a_few_faults_and_kills(tmp_path: Path, zygote: Zygote, seed: int) -> None:
    found = chaos(tmp_path, seed, zygote, faults=4)
    assert found.hurt
    assert found.different == []


@pytest.mark.parametrize("seed", range(100, 106))
def test_row_25_many_faults_and_kills(tmp_path: Path, zygote: Zygote, seed: int) -> None:
    found = chaos(tmp_path, seed, zygote)
    assert found.hurt.total() > 5
    assert found.different == []
