"""Recorded small runs, made once by the product and shared by all workers."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from deliver.runs import Made, shelf


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A run by its name in `deliver.runs.SCENES`."""
    base = tmp_path_factory.getbasetemp()
    common = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "recorded"
    common.mkdir(exist_ok=True)
    return shelf(common)
