"""Which column tells assets apart, and which counts steps where no column holds times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.data.cells import as_plain, as_texts
from vae_anomaly.data.infer.columns import Column
from vae_anomaly.data.infer.words import ASSET_WORDS, STEP_WORDS, has_word, words_of

__all__ = ["Keys", "asset_texts", "codes_of", "find_keys", "groups", "steps_within"]

#: Share of rows whose time may stand still or fall within an asset: repeated and late rows.
DISORDER = 0.02
#: Assets are things of which there are some; an asset has rows.
MOST_ASSETS = 5000
LEAST_ROWS = 5
#: Words beside the asset's own in the name of its column.
NUMBERING = frozenset(["id", "no", "nr", "name", "number", "num", "code", "key", "uid"])
#: Seconds of a unit of elapsed time, by a word of the column's name.
ELAPSED = {"ms": 0.001, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hour": 3600.0,
           "hours": 3600.0}  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """What tells a row from another beside a column of times.

    Attributes
    ----------
    asset : str, optional
        Column that names the asset; none where each file is one.
    counter : str, optional
        Column that counts steps or seconds; none where times are known, or only rows count.
    step_s : float
        Seconds of a step.
    """

    asset: str | None = None
    counter: str | None = None
    step_s: float = 1.0


def find_keys(
    cells: Mapping[str, pa.Array],
    columns: Mapping[str, Column],
    block: np.ndarray,
    moments: np.ndarray | None,
    time_column: str,
) -> Keys:
    """The asset's column, and a counter where there are no times.

    Parameters
    ----------
    cells, columns
        The sample and what stands in it.
    block : ndarray of shape (n,)
        Rows of one block stand behind one another in a file.
    moments : ndarray of shape (n,), optional
        Times of the rows.
    time_column : str
        Where they come from.
    """
    candidates = [
        name for name, column in columns.items() if name != time_column and _can_be_asset(column)
    ]
    if moments is not None:
        return Keys(_asset_by_time(cells, candidates, block, moments))
    found = [
        (counter, asset)
        for counter in _counters(columns, block)
        for asset in _explains(cells, candidates, columns[counter], block)
    ]
    if found:
        counter, asset = found[0]
        words = (*words_of(counter), "")
        return Keys(asset, counter, next((ELAPSED[w] for w in words if w in ELAPSED), 1.0))
    named = (name for name in candidates if _is_named(name) and _is_in_runs(cells[name], block))
    return Keys(next(named, None))


def codes_of(cells: pa.Array) -> np.ndarray:
    """(n,) a number for each different cell."""
    plain = as_plain(cells)
    encoded = plain.dictionary_encode()
    codes: np.ndarray = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(int)
    return codes


def groups(block: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    """(n,) a number for the rows of one asset in one block."""
    if codes is None:
        return block
    numbers: np.ndarray = block * (int(codes.max(initial=0)) + 2) + codes + 1
    return numbers


def steps_within(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Steps of values from row to row of the same group, in the order of the groups."""
    order = np.argsort(group, kind="stable")
    together = np.diff(group[order]) == 0
    steps: np.ndarray = np.diff(values[order])[together]
    return steps


def _can_be_asset(column: Column) -> bool:
    if column.kind == "texts":
        n_distinct, n_filled = len(column.texts), column.n_filled
    elif column.kind == "numbers" and column.is_whole:
        n_distinct, n_filled = len(column.distinct), len(column.known)
    else:
        return False
    is_full = n_filled >= 0.99 * column.n_rows
    return is_full and 2 <= n_distinct <= min(MOST_ASSETS, max(column.n_rows // LEAST_ROWS, 1))


def _is_named(name: str) -> bool:
    words = {*words_of(name)}
    return bool(words & ASSET_WORDS) and words <= ASSET_WORDS | NUMBERING | {"1", "2"}


def _is_in_runs(cells: pa.Array, block: np.ndarray) -> bool:
    """Whether the rows of each asset stand behind one another."""
    codes = codes_of(cells)
    changes = int((np.diff(codes) != 0).sum())
    return changes <= len(np.unique(codes)) - 1 + len(np.unique(block)) - 1


def _disorder(values: np.ndarray, group: np.ndarray) -> float:
    """Share of the steps that do not rise; 1 where there are no steps."""
    steps = steps_within(values, group)
    return float((steps <= 0).mean()) if len(steps) else 1.0


def _asset_by_time(
    cells: Mapping[str, pa.Array], candidates: list[str], block: np.ndarray, moments: np.ndarray
) -> str | None:
    """The column within which times rise; one that is named so, where they rise anyway."""
    alone = _disorder(moments, block)
    worth: list[tuple[float, bool, int, str]] = []
    for name in candidates:
        codes = codes_of(cells[name])
        within = _disorder(moments, groups(block, codes))
        if within <= DISORDER and ((alone > DISORDER and within <= alone / 2) or _is_named(name)):
            worth.append((round(within, 3), not _is_named(name), len(np.unique(codes)), name))
    return min(worth)[-1] if worth else None


def _counters(columns: Mapping[str, Column], block: np.ndarray) -> Iterator[str]:
    """Columns that rise by one, or whose name says that they count and that rise; likely first."""
    ranked: list[tuple[int, str]] = []
    for name, column in columns.items():
        if column.kind != "numbers" or len(column.known) < column.n_rows:
            continue
        steps = steps_within(column.values, block)
        is_named = has_word(name, STEP_WORDS) or bool({*words_of(name)} & {*ELAPSED})
        if column.is_whole and len(steps) and (steps == 1).mean() > 0.5:
            ranked.append((0 if is_named else 1, name))
        elif is_named and len(steps) and (steps > 0).mean() > 0.5:
            ranked.append((2, name))
    yield from (name for _, name in sorted(ranked, key=lambda pair: pair[0]))


def _explains(
    cells: Mapping[str, pa.Array], candidates: list[str], counter: Column, block: np.ndarray
) -> Iterator[str | None]:
    """Asset columns within which a counter rises at every row; None where it does in each file."""
    by_file = steps_within(counter.values, block)
    rises = by_file > 0
    named = sorted(candidates, key=lambda name: not _is_named(name))
    for name in named:
        if name == counter.name or (rises.all() and not _is_named(name)):
            continue
        if not (rises.all() or _is_in_runs(cells[name], block) or _is_named(name)):
            continue
        within = steps_within(counter.values, groups(block, codes_of(cells[name])))
        if len(within) and (within > 0).all():
            yield name
    if rises.all():
        yield None


def asset_texts(cells: pa.Array) -> list[str]:
    """Different names of assets, in the order in which they come."""
    return [text for text in as_texts(pc.unique(as_plain(cells))) if text is not None]
