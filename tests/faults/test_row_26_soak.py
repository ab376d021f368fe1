"""Row 26 of the fault matrix at length: `python tests/soak.py` in small."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import CONCURRENCY, soak


@pytest.mark.slow
def test_row_26_two_evaluations_killed_again_and_again_lose_nothing_and_repeat_little(tmp_path: Path) -> None:
    found = soak(tmp_path, requests=1200, kills=6, seed=7)
    assert found.requests == 1200
    assert found.kills >= 4
    assert found.faults > 30
    assert found.repeats <= found.kills * CONCURRENCY
    assert found.different == []
