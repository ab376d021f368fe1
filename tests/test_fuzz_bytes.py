"""scripts/fuzz_bytes.py without its fuzzer: the same readers take damaged bytes from hypothesis, and a missing atheris is said."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import pytest
from foreign_input import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import fuzz_bytes


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield name


@pytest.mark.parametrize("name", fuzz_bytes.READERS)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bytes_make_a_reader_say_only_what_it_documents(folder, name, data) -> None:
    read = fuzz_bytes.reader(name, folder)
    for start in fuzz_bytes.starts(name):
        read(data.draw(damaged(start)))


@pytest.mark.parametrize("name", fuzz_bytes.READERS)
def test_what_the_fuzzer_begins_with_is_read(folder, name) -> None:
    for start in fuzz_bytes.starts(name):
        fuzz_bytes.reader(name, folder)(start)


def test_without_atheris_the_fuzzer_says_so_and_is_no_failure(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    with pytest.raises(ImportError):
        importlib.import_module("atheris")
    assert fuzz_bytes.main() == 0
    assert "atheris is not installed" in capsys.readouterr().out
