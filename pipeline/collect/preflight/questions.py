"""Questions: properties of the config and the rows that make replies less informative, reported before anything is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cascade_threshold.signals import SIGNALS
from pipeline.collect.data.dataset import Dataset
from pipeline.config.task import Model, TaskConfig

MOST_ALTERNATIVES = 20
"""The most that any service lists per token."""
FEWEST_QUERIES = 5
"""A column with at least this many distinct values holds texts; with fewer it holds a setting."""
REPEATED = 0.5
"""Share of rows whose text in a column stands in other rows too, from which on it visibly repeats."""


@dataclass(frozen=True)
class Advice:
    """What was noticed, and what to write."""

    text: str
    remedy: str

    @property
    def line(self) -> str:
        """Both as one sentence."""
        return f"{self.text}: {self.remedy}"


def advice(config: TaskConfig, dataset: Dataset) -> list[Advice]:
    """Everything that was noticed, in the order in which it should be mended."""
    return [*_repeats(config, dataset), *_same_options(dataset), *_alternatives(config, dataset)]


def _alternatives(config: TaskConfig, dataset: Dataset) -> Iterator[Advice]:
    signal = SIGNALS.get(config.signal or "label_probability")
    if not isinstance(config.cheap, Model) or (signal is not None and not signal.needs_alternatives):
        return
    asked = config.cheap.top_logprobs
    options = max((len(e.options) for e in dataset.examples if e.options is not None), default=0)
    what, count = ("options", options) if config.kind == "choose" else ("labels", len(config.answers or ()))
    if asked < min(count, MOST_ALTERNATIVES):
        yield Advice(
            f"top_logprobs is {asked} and there are {count} {what}: the probability of those that a reply does not list stays unknown",
            f"set cheap.top_logprobs to {min(count, MOST_ALTERNATIVES)}, or name a signal that needs no alternatives (signal: first_token)",
        )


def _same_options(dataset: Dataset) -> Iterator[Advice]:
    shown = [
        e.id for e in dataset.examples if e.options is not None and len({o.strip() for o in e.options}) < len(e.options)
    ]
    if shown:
        yield Advice(
            f"{len(shown):,} rows hold an option twice, for example {shown[0]!r}: either letter would be right and one counts as wrong",
            "make the options of a row distinct, or leave these rows out",
        )


def _repeats(config: TaskConfig, dataset: Dataset) -> Iterator[Advice]:
    """A judge's query that stands in several rows, one per passage, and is not named as their group."""
    if config.kind != "judge" or config.dataset is None or config.dataset.group is not None or len(dataset.columns) < 2:
        return
    for place, column in enumerate(dataset.columns):
        counts = Counter(e.texts[place] for e in dataset.examples)
        again = sum(n for n in counts.values() if n > 1)
        others = {e.texts[:place] + e.texts[place + 1 :] for e in dataset.examples}
        if len(counts) >= FEWEST_QUERIES and again > REPEATED * len(dataset) and len(others) > len(counts):
            yield Advice(
                f"{again:,} of {len(dataset):,} rows share their {column!r} with another row",
                f"set dataset.group: {column}, so that a query stays in one split, the promise counts queries, and the order of its "
                "passages is measured (nDCG)",
            )
            return
