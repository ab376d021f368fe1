"""Resampling units: rows, or the groups that rows come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array

from pipeline.decide.arrays import Floats, Ints
from pipeline.decide.coded_texts import CodedTexts

MOST_BLOCKS = 2000


def blocks_of(group: CodedTexts | npt.NDArray[Any], *, seed: int, at_most: int = MOST_BLOCKS) -> Ints | None:
    """The block of each row, shape (n,): its group, or several groups pooled at random where there are too many.

    Pooled groups are independent of each other, so blocks of them are as well, and resampling blocks keeps the law of the
    group bootstrap. None where every row is its own group (a null group is one), so that rows can be resampled.
    """
    codes, names = group.factorized() if isinstance(group, CodedTexts) else pd.factorize(group)
    if (codes >= 0).sum() == len(names):
        return None
    alone = codes < 0
    codes = np.where(alone, len(names) + np.cumsum(alone) - 1, codes)
    number = int(codes.max()) + 1
    if number <= at_most:
        return codes.astype(np.int64)
    return np.asarray(np.random.default_rng(seed).permutation(number) % at_most, dtype=np.int64)[codes]


def draw_blocks(table: csr_array, size: int, rng: np.random.Generator) -> Floats:
    """Column sums of `size` bootstrap samples of whole blocks, (size, c), from a sparse table of sums (c, blocks)."""
    number = table.shape[1]
    times = rng.multinomial(number, np.full(number, 1 / number), size=size).astype(np.float64)
    return np.asarray(table @ times.T, dtype=np.float64).T
