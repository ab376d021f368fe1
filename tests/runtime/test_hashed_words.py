"""Hashed words: alike on every machine, and a text's own length does not count."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from cascade_threshold.hashed_words import BUCKETS, hashed_words, score


def test_buckets_are_the_checksums_of_case_folded_words() -> None:
    # crc32("ship") = 0x9BB8C1F0 and so on, by another tool: python -c "import zlib; print(zlib.crc32(b'ship') % 1024)"
    found = hashed_words("Ship SHIP straße")
    assert len(found) == 2
    assert sum(v * v for v in found.values()) == pytest.approx(1.0)
    twice, once = max(found.values()), min(found.values())
    assert twice / once == pytest.approx(1 + math.log(2))
    assert hashed_words("STRASSE ship ship") == found


def test_a_text_without_words_weighs_nothing_and_a_longer_one_no_more() -> None:
    weights = [1.0] * BUCKETS
    assert hashed_words("... !") == {}
    assert score("", weights) == 0.0
    assert score("one two three four", weights) == pytest.approx(2.0)
    assert score("one two three four " * 50, weights) == pytest.approx(2.0)
    assert hashed_words("\ud800x")


def test_no_use_is_made_of_the_interpreters_own_hash() -> None:
    program = (
        "from cascade_threshold.hashed_words import hashed_words as h; print(sorted(h('some words to hash').items()))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
