"""Numbers and foreign text as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deliver.report import formatting as f


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.951, "95.1 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.9999, "99.99 %"),
        (0.00004, "0.004 %"),
        (None, "unknown"),
    ],
)
def test_a_share_never_reads_0_or_100_per_cent_unless_it_is(value: float | None, text: str) -> None:
    assert f.share(value).replace("\u00a0", " ") == text


@given(st.floats(min_value=1e-9, max_value=1 - 1e-9))
def test_no_share_between_is_printed_as_an_end(value: float) -> None:
    assert (
        f.share(value, 1).replace("\u00a0", "") not in ("0.0%", "100.0%", "0%", "100%") or not 1e-8 < value < 1 - 1e-8
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.21, "$0.210"),
        (0.05134, "$0.0513"),
        (12.5, "$12.50"),
        (1234.5, "$1,234"),
        (0.0, "$0"),
        (-0.0044, "−$0.00440"),
        (None, "unknown"),
    ],
)
def test_dollars_keep_three_digits_below_one(value: float | None, text: str) -> None:
    assert f.usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "$0.50"),
        (1.4, "$1.40"),
        (0.17, "$0.17"),
        (0.0375, "$0.0375"),
        (2, "$2.00"),
        (1250.0, "$1,250.00"),
        (1e-6, "$0.000001"),
        (None, "unknown"),
    ],
)
def test_a_price_keeps_the_digits_that_it_was_given_and_has_cents(value: float | None, text: str) -> None:
    assert f.price(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.8734, "0.8734"), (0.0, "0"), (1.0, "1"), (None, "escalate all")])
def test_a_threshold_is_printed_as_the_policy_holds_it(value: float | None, text: str) -> None:
    assert f.threshold(value) == text


@given(st.floats(min_value=0, max_value=1))
def test_a_printed_threshold_reads_back_to_the_same_double(value: float) -> None:
    assert float(f.threshold(value)) == value


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0559, 4, "0.0559"),
        (0.006, 2, "0.0060"),
        (0.00045, 4, "0.00045"),
        (48.91, 4, "48.91"),
        (-0.5, 2, "−0.50"),
        (0, 4, "0"),
    ],
)
def test_a_measure_keeps_two_digits_that_count(value: float, digits: int, text: str) -> None:
    assert f.number(value, digits) == text


def test_an_interval_carries_no_unit_twice() -> None:
    assert f.estimate({"value": 0.951, "lower": 0.944, "upper": 0.957}).replace("\u00a0", " ") == "95.1 % [94.4, 95.7]"
    assert f.estimate({"value": 0.0, "lower": 0.0, "upper": 0.03}).replace("\u00a0", " ") == "0 % [0, 3.0]"
    assert f.estimate({"value": 0.5, "lower": None, "upper": None}).replace("\u00a0", " ") == "50.0 %"
    assert f.estimate({"value": None}) == "unknown"


@given(st.text())
def test_foreign_text_comes_out_without_hidden_or_reordering_characters(text: str) -> None:
    shown = f.plain(text)
    assert not any(
        0x202A <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 or (ord(c) < 32 and c != "\n") for c in shown
    )
    shown.encode("utf-8")


def test_text_is_cut_with_a_mark() -> None:
    assert f.plain("x" * 600) == "x" * 499 + "…"
    assert f.cut("short", 5) == "short"


def test_a_time_reads_as_utc_and_other_text_stays() -> None:
    assert f.moment("2026-11-23T01:47:47+00:00") == "2026-11-23 01:47:47 UTC"
    assert f.moment("yesterday") == "yesterday"
    assert f.moment(None) == "not recorded"


def test_what_differs_from_a_whole_by_rounding_alone_is_the_whole() -> None:
    assert f.share(0.9999999999999997) == f.share(1.0)
    assert f.share(1e-16) == f.share(0.0)
    assert f.share(0.9999) == "99.99\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize(
    ("p", "told"),
    [(0.0953, "p = 0.0953"), (5.77e-7, "p < 0.0001"), (0.0, "p < 0.0001"), (0.99995, "p > 0.999"), (1, "p = 1")],
)
def test_a_p_value_has_no_more_digits_than_say_something(p: float, told: str) -> None:
    assert f.p_value(p).replace("\u00a0", " ") == told


def test_terms_of_a_target_are_words_and_numbers_alone() -> None:
    told = f.terms(
        {"kind": "accepted_accuracy", "at_least": 0.9, "label_floors": {"spam": 0.6, "work": 0.4}, "certainty": 0.9}
    )
    assert told == "kind accepted accuracy, at least 0.9, label floors (spam 0.6, work 0.4), certainty 0.9"


def test_an_interval_that_holds_one_value_alone_is_not_shown() -> None:
    assert f.estimate({"value": 400.0, "lower": 400.0, "upper": 400.0}, "usd") == "$400.00"
    assert f.estimate({"value": 0.0, "lower": 0.0, "upper": 0.2}) == "0\u00a0% [0, 20.0]"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("with 99 % intervals.", ["99\u00a0%"]),
        ("at most 2 points worse, 0.5 s slower, 30 ms", ["2\u00a0points", "0.5\u00a0s", "30\u00a0ms"]),
        ("1 point, 3 sales, 4 pointers, 5 %", ["1\u00a0point", "3 sales", "4 pointers", "5\u00a0%"]),
    ],
)
def test_no_line_breaks_between_a_number_and_its_unit(text: str, kept: list[str]) -> None:
    said = f.sentence(text)
    assert said.replace("\u00a0", " ") == text
    assert [part for part in kept if part not in said] == []
