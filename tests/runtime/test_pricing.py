"""Usage as it comes over the wire, and dollars: against sums done by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_threshold.completion import parse, usage_of
from cascade_threshold.pricing import Price, Usage, price_of


def body(usage: object, text: str = "yes") -> dict[str, object]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}


PROMPT = {"prompt_tokens": 1000, "completion_tokens": 2, "total_tokens": 1002}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (PROMPT, Usage(1000, 2, None, None)),
        (PROMPT | {"prompt_tokens_details": {"cached_tokens": 900}}, Usage(1000, 2, 900, None)),
        (PROMPT | {"cached_tokens": 900}, Usage(1000, 2, 900, None)),
        (PROMPT | {"cached_tokens": 0}, Usage(1000, 2, 0, None)),
        (PROMPT | {"cached_tokens": None}, Usage(1000, 2, None, None)),
        (PROMPT | {"prompt_tokens_details": None}, Usage(1000, 2, None, None)),
        (PROMPT | {"prompt_tokens_details": {"cached_tokens": None}}, Usage(1000, 2, None, None)),
        (PROMPT | {"prompt_tokens_details": {"cached_tokens": "many"}}, Usage(1000, 2, None, None)),
        (PROMPT | {"prompt_tokens_details": {"cached_tokens": 5000}}, Usage(1000, 2, 1000, None)),  # no more than all
        (
            {"input_tokens": 1000, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 7}},
            Usage(1000, 2, 7, None),
        ),
        # Anthropic's count leaves out what a cache holds; LiteLLM's prompt_tokens contain it
        (
            {"input_tokens": 50, "output_tokens": 2, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 30},
            Usage(980, 2, 900, None),
        ),
        (
            {
                "prompt_tokens": 980,
                "completion_tokens": 2,
                "cache_read_input_tokens": 900,
                "cache_creation_input_tokens": 30,
            },
            Usage(980, 2, 900, None),
        ),
        # inspect_ai 5528: reasoning that only the total counts
        (
            {
                "prompt_tokens": 50,
                "completion_tokens": 1,
                "total_tokens": 851,
                "completion_tokens_details": {"reasoning_tokens": 800},
            },
            Usage(50, 801, None, 800),
        ),
        # the same reasoning inside the completion is not counted again
        (
            {
                "prompt_tokens": 50,
                "completion_tokens": 801,
                "total_tokens": 851,
                "completion_tokens_details": {"reasoning_tokens": 800},
            },
            Usage(50, 801, None, 800),
        ),
        ({"prompt_tokens": 50, "completion_tokens": 801, "reasoning_tokens": 800}, Usage(50, 801, None, 800)),
        # no total, and more reasoning than the completion has room for
        ({"prompt_tokens": 50, "completion_tokens": 1, "reasoning_tokens": 800}, Usage(50, 801, None, 800)),
        ({"prompt_tokens": 50, "completion_tokens": 0, "total_tokens": 851}, Usage(50, 801, None, None)),
        ({"prompt_tokens": 50, "completion_tokens": 0, "total_tokens": 50}, Usage(50, None, None, None)),
        ({"prompt_tokens": 50, "total_tokens": 52}, Usage(50, 2, None, None)),
        ({"prompt_tokens": 50.0, "completion_tokens": 2.0}, Usage(50, 2, None, None)),
        ({"prompt_tokens": True, "completion_tokens": -2, "total_tokens": 10**15}, Usage(None, None, None, None)),
        (None, Usage()),
        ([], Usage()),
    ],
)
def test_usage_is_read_as_it_is_billed(usage: object, expected: Usage) -> None:
    assert usage_of(body(usage)) == expected
    assert parse(body(usage)).usage == expected


def test_the_quick_reading_of_a_plain_usage_finds_what_the_whole_one_finds() -> None:
    """A null beside them means nothing, and keeps the three counts from being all there is."""
    counts = (0, 1, 7, 50, 57, 57.0, 10**12, 10**12 - 50, -50, True, "57", None)
    for inputs, outputs, total in itertools.product(counts, repeat=3):
        plain = {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": total}
        assert usage_of(body(plain)) == usage_of(body(plain | {"cached_tokens": None})), plain


def test_a_missing_usage_has_no_dollars_and_a_price_of_nothing_is_nothing() -> None:
    assert Price(0.2, 0.4).usd(Usage()) is None
    assert Price(0.2, 0.4).usd(Usage(0, 0)) is None
    assert Price(0.2, 0).usd(Usage(1000, 5)) == pytest.approx(0.0002)
    assert Price(0, 0).usd(Usage(1000, 5)) == 0.0
    assert Price(0, 0).usd(Usage()) == 0.0
    assert Price(0, 0).free
    assert not Price(0, 0, request=0.1).free


def test_a_count_that_costs_nothing_may_be_missing() -> None:
    free_output, free_input = Price(input=0.5, output=0.0), Price(input=0.0, output=2.0)
    # a decision model reports no completion tokens, or 0 of them, which cannot be true of a reply with text
    for told in ({"prompt_tokens": 400}, {"prompt_tokens": 400, "completion_tokens": 0, "total_tokens": 400}):
        assert free_output.usd(usage_of(body(told))) == 400 * 0.5 / 1e6
        assert free_input.usd(usage_of(body(told))) is None
    assert free_input.usd(usage_of(body({"completion_tokens": 30}))) == 30 * 2.0 / 1e6
    assert free_output.usd(usage_of(body({"completion_tokens": 30}))) is None
    assert free_output.usd(usage_of(body({"prompt_tokens": 0, "completion_tokens": 0}))) is None
    assert Price(input=0.0, output=0.0, cached_input=0.1).usd(Usage(None, 3)) is None


def test_prices_by_request_and_by_the_hour_add_to_those_of_tokens() -> None:
    side = {
        "usd_per_million_tokens": {"input": 1, "output": 0, "as_of": "2026-11-22", "source": "a list"},
        "usd_per_request": 0.5,
        "usd_per_hour": {"price": 4, "requests_per_hour": 16, "as_of": "2026-11-01", "source": "a bill"},
    }
    price = price_of(side)
    assert price is not None
    assert price.usd(Usage(1_000_000, 9)) == pytest.approx(1 + 0.5 + 0.25)
    assert str(price.as_of) == "2026-11-01"
    assert price.source == "a list; a bill"
    assert price_of(price.public()).usd(Usage(1_000_000, 9)) == pytest.approx(1.75)
    by_request = price_of({"usd_per_request": 0.5})
    assert by_request is not None
    assert by_request.usd(Usage()) == 0.5
    assert price_of({"usd_per_million_tokens": None}) is None
    assert price_of(None) is None


def test_a_shared_prefix_turns_the_verdict() -> None:
    """The pair of 2026-11: 1,500 tokens of prefix, 100 of a row, 35 % escalated."""
    cheap, strong = Price(0.17, 0.25), Price(1.32, 3.96, 0.13)
    used, cached = Usage(1600, 4), Usage(1600, 4, 1500)

    def per_1000(reply: Usage) -> tuple[float, float]:
        low, high = cheap.usd(reply), strong.usd(reply)
        assert low is not None
        assert high is not None
        return 1000 * (low + 0.35 * high), 1000 * high

    cascade, alone = per_1000(used)
    assert cascade < alone
    cascade, alone = per_1000(cached)
    assert cascade > alone
    assert strong.usd(cached, cached=False) == strong.usd(used)


@given(
    inputs=st.integers(1, 10**6),
    outputs=st.integers(0, 10**6),
    cached=st.integers(0, 10**6),
    prices=st.tuples(*[st.integers(0, 1000)] * 3),
    discount=st.sampled_from([0.0, 0.25, 0.5]),
    batch=st.booleans(),
)
def test_dollars_are_the_exact_sum(inputs, outputs, cached, prices, discount, batch) -> None:
    a, b, c = prices
    hit = min(cached, inputs)
    exact = Fraction((inputs - hit) * a + hit * c + outputs * b, 10**8) * (1 - Fraction(discount) if batch else 1)
    price = Price(a / 100, b / 100, c / 100, discount)
    assert price.usd(Usage(inputs, outputs, hit), batch=batch) == pytest.approx(float(exact), rel=1e-9, abs=1e-15)
    assert (
        price.at_most(inputs, outputs, batch=batch)
        >= (price.usd(Usage(inputs, outputs, hit), batch=batch) or 0) - 1e-12
    )
