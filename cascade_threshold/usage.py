"""Usage of a reply as services report it: the only reader of token counts. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade_threshold.pricing import Usage

_new = tuple.__new__  # what the constructor of a NamedTuple calls, at half the cost


def usage_in(body: Mapping[str, Any], text: str | None) -> Usage:
    """Tokens that the completion `body` bills, whose answer is `text`. A zero that cannot be true is unknown.

    What `total_tokens` has beyond prompt and completion was generated separately (reasoning) and is billed as output, as are
    reasoning tokens that are more than the completion's. Reasoning inside the completion is not counted again.
    """
    usage = body.get("usage")
    if not isinstance(usage, dict):
        if "eval_count" not in body:
            return Usage()
        usage = {"prompt_tokens": body.get("prompt_eval_count"), "completion_tokens": body.get("eval_count")}
    if len(usage) == 3 and (plain := _plain(usage)) is not None:
        return plain
    inputs = _first(usage, "prompt_tokens", "input_tokens") or None
    outputs, total = _first(usage, "completion_tokens", "output_tokens"), _first(usage, "total_tokens")
    reasoning = _detail(usage, "reasoning_tokens", "completion_tokens_details", "output_tokens_details")
    cached = _detail(usage, "cached_tokens", "prompt_tokens_details", "input_tokens_details")
    if cached is None:
        cached = _first(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens")
    if inputs is not None and usage.get("prompt_tokens") is None:
        # Anthropic's count leaves out what was read from a cache or written to one
        inputs += sum(_first(usage, f"cache_{name}_input_tokens") or 0 for name in ("read", "creation"))
    completion = outputs
    if inputs is not None and total is not None and total > inputs + (outputs or 0):
        outputs = total - inputs
    if outputs is not None and reasoning is not None and reasoning > outputs:
        outputs = (completion or 0) + reasoning
    if outputs == 0 and text:
        outputs = None
    if cached is not None and inputs is not None:
        cached = min(cached, inputs)
    return _new(Usage, (inputs, outputs, cached, reasoning))


def _plain(usage: Mapping[str, Any]) -> Usage | None:
    """Usage of nothing but prompt, completion and their sum: what most services send, read in a quarter of the time."""
    inputs, outputs, total = usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens")
    if type(inputs) is not int or type(outputs) is not int or type(total) is not int:
        return None
    whole = inputs > 0 and outputs > 0 and inputs + outputs == total < 10**12
    return _new(Usage, (inputs, outputs, None, None)) if whole else None


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first of several spellings of a count that is present."""
    for name in names:
        value = usage.get(name)
        if value is not None and (count := _count(value)) is not None:
            return count
    return None


def _detail(usage: Mapping[str, Any], name: str, *details: str) -> int | None:
    """A count from usage itself or from the details within it; the larger where both report it."""
    value = usage.get(name)
    most = None if value is None else _count(value)
    for detail in details:
        place = usage.get(detail)
        if isinstance(place, dict) and (count := _count(place.get(name))) is not None:
            most = count if most is None else max(most, count)
    return most


def _count(value: Any) -> int | None:
    """A number of tokens; one that does not fit in 64 bits is as unknown as a negative one."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 10**12 else None
