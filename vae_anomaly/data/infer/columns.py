"""What stands in a column: numbers and the texts among them, or texts and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import MISSING_TEXTS
from vae_anomaly.data.cells import SPACES, as_mask, as_plain, as_texts, means_missing, read_numbers
from vae_anomaly.data.infer.words import THOUSANDS

__all__ = ["Column", "describe"]

#: A column holds numbers if so large a share of what is neither empty nor a known word is one.
NUMERIC = 0.5
#: Different texts that are counted of a column.
MOST_TEXTS = 10_000


@dataclass(frozen=True)
class Column:
    """A column as it was understood.

    Attributes
    ----------
    kind : str
        *numbers*, *truths* (true and false), *texts*, *times* (of a type) or *empty*.
    values : ndarray of shape (n,)
        Numbers, NaN where there is none.
    texts : Counter of str
        In a column of texts each text, else the texts among the numbers that mean a missing value;
        at most 10 000 different ones.
    odd : Counter of str
        Texts among the numbers that mean nothing known.
    n_filled : int
        Cells that are not empty and not N/A or the like.
    """

    name: str
    kind: Literal["numbers", "truths", "texts", "times", "empty"]
    values: np.ndarray
    texts: Counter[str]
    odd: Counter[str]
    n_filled: int

    @property
    def n_rows(self) -> int:
        return len(self.values)

    @cached_property
    def known(self) -> np.ndarray:
        """The numbers that are there and finite."""
        known: np.ndarray = self.values[np.isfinite(self.values)]
        return known

    @cached_property
    def distinct(self) -> np.ndarray:
        """Its different numbers, rising."""
        return np.unique(self.known)

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return len(self.known) > 0 and bool((self.distinct == np.floor(self.distinct)).all())

    @property
    def is_constant(self) -> bool:
        return len(self.distinct) == 1

    @property
    def thousands(self) -> str:
        """A number with signs between thousands, which no reader takes; else nothing."""
        return next((text for text in self.odd if THOUSANDS.fullmatch(text)), "")


def describe(cells: Mapping[str, pa.Array], decimal: str) -> dict[str, Column]:
    """Each column of a sample.

    Examples
    --------
    >>> columns = describe({"p": pa.array([b"1.5", b"Bad", None, b"hm"])}, ".")
    >>> columns["p"].kind, columns["p"].known, dict(columns["p"].texts), dict(columns["p"].odd)
    ('numbers', array([1.5]), {'Bad': 1}, {'hm': 1})
    """
    return {name: _column(name, as_plain(column), decimal) for name, column in cells.items()}


def _column(name: str, cells: pa.Array, decimal: str) -> Column:
    n_rows, kind = len(cells), cells.type
    nothing = np.full(n_rows, np.nan)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        filled = n_rows - cells.null_count
        return Column(name, "times" if filled else "empty", nothing, Counter(), Counter(), filled)
    if not pa.types.is_binary(kind):
        return _typed(name, cells)
    texts = pc.utf8_trim(pa.array(as_texts(cells), pa.string()), SPACES)
    filled = ~as_mask(means_missing(texts))
    n_filled = int(filled.sum())
    if not n_filled:
        return Column(name, "empty", nothing, Counter(), Counter(), 0)
    read = read_numbers(name, cells, decimal, truths=False, no_value=MISSING_TEXTS)
    values = pc.fill_null(read.values, np.nan).to_numpy(zero_copy_only=False)
    is_number = np.isfinite(values)
    is_word = filled & as_mask(means_missing(texts, MISSING_TEXTS))
    said = _counted(texts, is_word)
    n_unknown = n_filled - int(is_word.sum())
    odd = _counted(texts, filled & ~is_word & ~is_number)
    n_thousands = sum(n for text, n in odd.items() if THOUSANDS.fullmatch(text))
    if n_unknown and is_number.sum() + n_thousands >= NUMERIC * n_unknown:
        return Column(name, "numbers", values, said, odd, n_filled)
    every = _counted(texts, filled)
    if {text.lower() for text in every} <= {"true", "false"}:
        truths = as_mask(pc.equal(pc.ascii_lower(texts), "true")).astype(float)
        return Column(name, "truths", np.where(filled, truths, np.nan), every, Counter(), n_filled)
    return Column(name, "texts", nothing, every, Counter(), n_filled)


def _typed(name: str, cells: pa.Array) -> Column:
    """A column whose type says what it holds."""
    read = read_numbers(name, cells, ".", truths=True)
    values = pc.fill_null(read.values, np.nan).to_numpy(zero_copy_only=False).astype(float)
    n_filled = len(cells) - cells.null_count
    kind: Literal["numbers", "truths", "texts", "empty"] = "numbers"
    if not n_filled:
        kind = "empty"
    elif pa.types.is_boolean(cells.type):
        kind = "truths"
    elif not np.isfinite(values).any() and "not_a_number" in read.faults:
        kind = "texts"
    texts = Counter({f"a value of type {cells.type}": n_filled}) if kind == "texts" else Counter()
    return Column(name, kind, values, texts, Counter(), n_filled)


def _counted(texts: pa.Array, which: np.ndarray) -> Counter[str]:
    counted = pc.value_counts(texts.filter(pa.array(which)))
    pairs = zip(
        counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True
    )
    return Counter(dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:MOST_TEXTS]))
