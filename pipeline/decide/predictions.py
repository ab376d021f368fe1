"""Rows: the evaluated examples as arrays of one length. Unknown numbers are NaN, unknown texts None."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cascade_threshold.answers import NO_WHOLE_ANSWER
from pipeline.decide.arrays import Flags, Floats, Ints
from pipeline.decide.coded_texts import CodedTexts

AT_ONCE = 1 << 20
"""Rows that are looked through at a time."""
TEXTS = ("example_id", "split", "group", "segment", "label", "cheap_answer", "strong_answer", "strong_status")
NUMBERS = ("confidence", "cheap_correct", "strong_correct", "cheap_usd", "strong_usd", "cheap_s", "strong_s", "drawn")


def agreement(
    same: Flags,
    cheap: Flags,
    strong: Flags,
    unreadable: Flags,
) -> Floats:
    """1.0 where both models gave the same answer, 0.0 where not, NaN where either is missing, shape (n,).

    `cheap`, `strong`: which rows have that model's answer; `same`: where both are, whether they are equal. An `unreadable`
    strong reply is another answer than any the cheap model gave.
    """
    return np.where(unreadable & cheap, 0.0, np.where(cheap & strong, same.astype(float), np.nan))


@dataclass(frozen=True)
class Rows:
    """Examples of one task, one array element each.

    `cheap_correct` and `strong_correct` are 1.0, 0.0, or NaN where it is not known (no reply, no label).
    `confidence` is NaN where the cheap model's reply supports none; such rows always escalate.
    Dollars and seconds are those recorded for the row's own replies; NaN where unknown.
    """

    example_id: CodedTexts
    split: CodedTexts
    group: CodedTexts
    segment: CodedTexts
    label: CodedTexts
    cheap_answer: CodedTexts
    strong_answer: CodedTexts
    confidence: Floats
    cheap_correct: Floats
    strong_correct: Floats
    cheap_usd: Floats
    strong_usd: Floats
    cheap_s: Floats
    strong_s: Floats
    strong_status: CodedTexts = field(default_factory=lambda: CodedTexts.none(0))
    """Of the strong model's replies; None throughout where it is not known."""
    drawn: Floats = field(default_factory=lambda: np.zeros(0))
    """1 where the coin drew the row for the certificate, 0 where not; NaN throughout where every strong answer is bought."""
    strong_weight: Floats = field(default_factory=lambda: np.zeros(0))
    """How many rows a strong answer stands for in figures, 0 where they may not use it; 1 where every one is bought."""

    def __post_init__(self) -> None:
        for name, missing in (("drawn", np.nan), ("strong_weight", 1.0)):
            if len(getattr(self, name)) != len(self):
                object.__setattr__(self, name, np.broadcast_to(missing, len(self)))
        if len(self.strong_status) != len(self):
            object.__setattr__(self, "strong_status", CodedTexts.none(len(self)))
        for name in TEXTS:
            object.__setattr__(self, name, CodedTexts.of(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.confidence)

    def take(self, which: npt.NDArray[Any]) -> Rows:
        """The rows of a boolean mask or an index array, in that order."""
        if which.dtype == bool and which.all():
            return self
        return Rows(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def of(self, split: str) -> Rows:
        """The rows of one split; `all` gives every row."""
        return self if split == "all" else self.take(self.split == split)

    @property
    def strong_unreadable(self) -> Flags:
        """Where the strong model replied and its reply is no whole answer of the set, shape (n,)."""
        return self.strong_status.isin(NO_WHOLE_ANSWER)

    @property
    def strong_read(self) -> Floats:
        """`strong_correct` with unreadable replies unknown, as a promise counts them: production may read what we could not."""
        return np.where(self.strong_unreadable, np.nan, self.strong_correct)

    @property
    def sampled(self) -> bool:
        """Whether strong answers were sampled, so that the available ones do not represent all rows."""
        return len(self) > 0 and not bool(np.isnan(self.drawn).all())

    def with_strong_of(self, wanted: Flags) -> Rows:
        """The rows without the strong answers that are not wanted, shape (n,)."""

        def number(x: Floats) -> Floats:
            return np.where(wanted, x, np.nan)

        def text(x: CodedTexts) -> CodedTexts:
            return CodedTexts(np.where(wanted, x.codes, np.int32(-1)), x.values)

        return replace(
            self,
            strong_correct=number(self.strong_correct),
            strong_usd=number(self.strong_usd),
            strong_s=number(self.strong_s),
            strong_answer=text(self.strong_answer),
            strong_status=text(self.strong_status),
        )

    def estimated(self, strong: Floats, proxy: Floats) -> Floats:
        """An unbiased estimate of `strong` (n,) for every row, from those that were bought: proxy + weight (strong - proxy).

        Where every answer is bought it is `strong` itself. NaN where a bought answer never came. Horvitz and Thompson 1952
        (JASA 47), with the cheap model's own outcome as the proxy.
        """
        if not self.sampled:
            return strong
        used = self.strong_weight > 0
        return np.where(used, proxy + self.strong_weight * (strong - proxy), proxy)

    def answer_classes(self, kept: Flags, came: Flags) -> Ints:
        """Class of each row (n,), within which the strong answers that `came` (n,) stand for the others.

        0 kept and wrong, 1 kept and not wrong, 2 escalated and wrong, 3 escalated and not wrong, where a cheap answer that is unknown
        is wrong. An escalated class of which nothing came is joined to the other.
        """
        out = 2 * ~kept + (self.cheap_correct == 1)
        for empty, other in ((2, 3), (3, 2)):
            if not came[out == empty].any():
                out = np.where(out == empty, other, out)
        return np.asarray(out, dtype=np.int64)

    def calibrated(self, kept: Flags, weights: Floats | None = None) -> Rows:
        """The rows with weights of the strong answers that came that add up to the rows of their class, at a threshold that
        keeps `kept` (n,), in each split by itself; `weights` (n,): how much each row counts.

        What the coin drew of a class is a little more or less than its share. With the number of rows that the class really has
        the estimate of a share stays between 0 and 1, and varies less (post-stratification: Holt and Smith 1979, JRSS A 142).
        """
        if not self.sampled:
            return self
        came, mass = (self.strong_weight > 0) & ~np.isnan(self.strong_correct), np.ones(len(self))
        stands = np.array(self.strong_weight, dtype=np.float64)
        for split in self.split.present:
            inside = np.asarray(self.split == split, dtype=bool)
            part, here = self.answer_classes(kept, came & inside), mass if weights is None else weights
            for of in np.unique(part[inside]):
                mine = inside & (part == of)
                drawn = float((here * stands)[mine & came].sum())
                if drawn > 0:
                    stands[mine & came] *= float(here[mine].sum()) / drawn
        return replace(self, strong_weight=stands)

    def stood_in(self, strong: Floats, proxy: Floats, kept: Flags, weights: Floats | None = None) -> Floats:
        """As `estimated`, with the weights of `calibrated`: bought answers that never came are stood in for by those of their
        class. Left out alone, each would take along the rows that it stands for. NaN for what was bought in a class of which no answer came.
        """
        if not self.sampled:
            return strong
        used, came = self.strong_weight > 0, (self.strong_weight > 0) & ~np.isnan(strong)
        part = self.answer_classes(kept, came)
        stands = replace(self, strong_correct=strong).calibrated(kept, weights).strong_weight
        out = np.where(came, proxy + stands * (strong - proxy), proxy)
        return np.where(used & ~np.isin(part, part[came]), np.nan, out)

    @property
    def strong_estimate(self) -> Floats:
        """`strong_correct`, estimated where answers were sampled; a cheap answer that is unknown stands as wrong."""
        return self.estimated(self.strong_correct, np.nan_to_num(self.cheap_correct, nan=0.0))

    @property
    def agree_estimate(self) -> Floats:
        """`agree`, estimated where answers were sampled: a right cheap answer stands as agreeing."""
        return self.estimated(self.agree, np.nan_to_num(self.cheap_correct, nan=1.0))

    def contents(self) -> list[str]:
        """What identifies a table's rows regardless of their ids: distinct combinations of confidence and correctness."""
        columns = {"p": self.confidence, "cheap": self.cheap_correct, "strong": self.strong_correct}
        parts = []
        for start in range(0, len(self), AT_ONCE):
            part = pd.DataFrame({name: values[start : start + AT_ONCE] for name, values in columns.items()})
            parts.append(part.drop_duplicates())
        distinct = pd.concat(parts or [pd.DataFrame(columns)]).drop_duplicates().to_numpy().tolist()
        return ["\x1f".join(f"{value:.12g}" for value in row) for row in distinct]

    def with_unreadable(self, right: bool) -> Rows:
        """The rows as if every unreadable strong reply were right, or wrong: the two ends of what it may have been."""
        return replace(self, strong_correct=np.where(self.strong_unreadable, float(right), self.strong_correct))

    @property
    def agree(self) -> Floats:
        """Whether both models gave the same answer, shape (n,); see `agreement`."""
        same = self.cheap_answer == self.strong_answer
        return agreement(same, self.cheap_answer.known, self.strong_answer.known, self.strong_unreadable)

    def outcome(self, labeled: bool) -> Floats:
        """The outcome that the confidence predicts, (n,): being right, or agreement with the strong model if there are no labels."""
        return self.cheap_correct if labeled else self.agree

    def graded_by_agreement(self) -> Rows:
        """The rows as if the strong model were right by definition, which stands in for labels where there are none."""
        strong = np.where(np.isnan(self.agree), np.nan, 1.0)
        return replace(self, cheap_correct=self.agree, strong_correct=strong)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Rows:
        """Read a predictions table. Columns that it lacks are unknown throughout."""
        n = len(frame)

        def numbers(name: str) -> Floats:
            if name not in frame:
                return np.broadcast_to(np.nan, n)
            if frame[name].dtype == np.float64:
                return frame[name].to_numpy()
            return np.asarray(
                pd.to_numeric(frame[name], errors="coerce").astype("Float64").to_numpy(np.float64, na_value=np.nan)
            )

        columns: dict[str, Any] = {name: numbers(name) for name in NUMBERS}
        if "example_id" in frame:  # every reader refuses a second row of one id
            columns["example_id"] = CodedTexts.names(frame["example_id"])
            if "group" in frame and frame["group"].equals(frame["example_id"]):
                columns["group"] = columns["example_id"]
        for name in (name for name in TEXTS if name not in columns):
            columns[name] = CodedTexts.of(frame[name]) if name in frame else CodedTexts.none(n)
        sampled = "drawn" in frame
        return cls(
            **columns, strong_weight=np.nan_to_num(numbers("strong_weight"), nan=0.0) if sampled else np.zeros(0)
        )
