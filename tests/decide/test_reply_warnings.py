"""What is said about the cheap model's replies, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.decide.advice.reply_warnings import ReplyCounts, reply_warnings

PLAIN = ReplyCounts(
    {"ok": 1000},
    long_answers=0,
    exact_zeros=0,
    few_alternatives=0,
    wanted=5,
    asked={"cheap": "a/b", "strong": "c/d"},
    answered={"cheap": ("a/b",), "strong": ("c/d",)},
)


def said(**changes: object) -> list[tuple[str, int]]:
    return [(c.code, c.gravity) for c in reply_warnings(replace(PLAIN, **changes))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"long_answers": 3}, [("long_answers", 1)]),
        ({"statuses": {"ok": 990, "truncated": 10}}, [("truncated", 1)]),
        ({"statuses": {"ok": 900, "truncated": 100}}, [("truncated", 2)]),
        ({"statuses": {"ok": 995, "out_of_set": 5}}, []),
        ({"statuses": {"ok": 950, "out_of_set": 50}}, [("out_of_set", 1)]),
        ({"statuses": {"ok": 800, "out_of_set": 200}}, [("out_of_set", 2)]),
        ({"exact_zeros": 250}, []),
        ({"exact_zeros": 400}, [("exact_zeros", 1)]),
        ({"exact_zeros": 700}, [("exact_zeros", 2)]),
        ({"exact_zeros": 995}, [("exact_zeros", 3)]),
        ({"statuses": {"ok": 10}, "exact_zeros": 10}, [("exact_zeros", 2)]),
        ({"few_alternatives": 400}, []),
        ({"few_alternatives": 600}, [("few_alternatives", 2)]),
        ({"few_alternatives": 1000, "wanted": 1}, []),
        ({"answered": {"cheap": ("a/b-0124",)}}, [("other_model", 1)]),
        ({"answered": {"cheap": ("a/b", "x/y")}}, [("other_model", 2)]),
        ({"answered": {"cheap": ("(none)",)}}, []),
        ({"statuses": {"failed": 5}}, []),
        ({"statuses": {}, "long_answers": None, "exact_zeros": None, "few_alternatives": None}, []),
    ],
)
def test_a_warning_comes_with_the_share_that_deserves_it(
    changes: dict[str, object], expected: list[tuple[str, int]]
) -> None:
    assert said(**changes) == expected


def test_failed_requests_are_no_replies() -> None:
    (warning,) = reply_warnings(replace(PLAIN, statuses={"ok": 500, "failed": 500}, long_answers=50))
    assert warning.text.startswith("10\u00a0% of the cheap replies are longer than 8 tokens")
