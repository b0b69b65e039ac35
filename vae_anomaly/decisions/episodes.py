"""When rows are scored, and stretches of them: faults in the labels, alarms in the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_anomaly.decisions.rates import FloatArray, IntArray
from vae_anomaly.errors import InputError

__all__ = ["BoolArray", "Episodes", "NameArray", "Placed", "Timeline", "placed", "runs", "timeline"]

BoolArray = NDArray[np.bool_]
NameArray = NDArray[np.str_]

#: A gap of more periods than these ends a stretch, where nothing else is said.
GAP_PERIODS = 10


@dataclass(frozen=True)
class Episodes:
    """Stretches of time, each of one asset: from `start_s` on, and over at `end_s`.

    Of an alarm, `start_s` is when it was raised.

    Attributes
    ----------
    asset : ndarray of str, shape (k,)
    start_s, end_s : ndarray of shape (k,)
        Seconds on the clock of the rows; an end may be infinite.

    Raises
    ------
    InputError
        Shapes differ, or an episode does not end after it starts.
    """

    asset: NameArray
    start_s: FloatArray
    end_s: FloatArray

    def __post_init__(self) -> None:
        shapes = {self.asset.shape, self.start_s.shape, self.end_s.shape}
        if len(shapes) > 1 or self.asset.ndim != 1:
            raise InputError(
                f"assets, starts and ends of episodes have shapes {self.asset.shape}, "
                f"{self.start_s.shape} and {self.end_s.shape}; all must be (k,)"
            )
        wrong = ~(self.end_s >= self.start_s)  # NaN too
        if wrong.any():
            first = int(np.argmax(wrong))
            raise InputError(
                f"an episode of asset '{self.asset[first]}' starts at {self.start_s[first]:g} s "
                f"and ends at {self.end_s[first]:g} s; give an end that is not before the start"
            )

    def __len__(self) -> int:
        return len(self.start_s)


@dataclass(frozen=True)
class Timeline:
    """When the scored rows of each asset were, and for how long each of them stands.

    Attributes
    ----------
    assets : ndarray of str, shape (m,)
        Their names.
    code : ndarray of shape (n,)
        Which asset each row is of, rising.
    time_s : ndarray of shape (n,)
        Rising within an asset.
    lasts_s : ndarray of shape (n,)
        Time until the next row of the stretch; of its last row, a median period of the asset, or
        until the next stretch where that is sooner.
    stretch : ndarray of shape (n,)
        Rising number of the stretch without a gap that each row is in.
    """

    assets: NameArray
    code: IntArray
    time_s: FloatArray
    lasts_s: FloatArray
    stretch: IntArray

    def __len__(self) -> int:
        return len(self.time_s)

    def rows_at(self, asset: NameArray, time_s: FloatArray) -> IntArray:
        """(k,) the row of an asset that stands at each moment.

        Raises
        ------
        InputError
            No row does.
        """
        names = {name: number for number, name in enumerate(self.assets.tolist())}
        codes = np.array([names.get(name, -1) for name in asset.tolist()], np.int64)
        firsts = np.searchsorted(self.code, np.arange(len(names) + 1))
        found = np.full(len(codes), -1, np.int64)
        for number in np.unique(codes[codes >= 0]):
            own, first = codes == number, firsts[number]
            times = self.time_s[first : firsts[number + 1]]
            found[own] = first + np.searchsorted(times, time_s[own], side="right") - 1
            found[own & (found < first)] = -1
        inside = found >= 0
        until = self.time_s[found] + self.lasts_s[found]
        # a row that lasts no time still stands at its own moment
        inside &= (time_s < until) | (time_s == self.time_s[found])
        if not inside.all():
            lost = int(np.argmin(inside))
            raise InputError(
                f"nothing was scored of asset '{asset[lost]}' at {time_s[lost]:.17g} s; give "
                "episodes that start at a row of their asset, in seconds on the same clock"
            )
        return found


def timeline(asset: ArrayLike, time_s: ArrayLike, *, max_gap_s: float | None = None) -> Timeline:
    """Rows on the clock of their assets, cut into stretches where rows are missing.

    Parameters
    ----------
    asset : array-like of shape (n,)
        Name of the asset of each row; rows of one asset stand together.
    time_s : array-like of shape (n,)
        Seconds since any moment, rising within an asset.
    max_gap_s : float, optional
        Seconds between two rows above which a stretch ends; by default ten median periods of the
        asset, so that a week without rows is not counted as a week without alarms.

    Returns
    -------
    Timeline

    Raises
    ------
    InputError
        Shapes differ, there is no row, a time is not finite, rows are not in order, or the gap is
        not positive.

    Examples
    --------
    >>> rows = timeline(["p1"] * 4 + ["p2"] * 2, [0, 60, 120, 9000, 0, 60])
    >>> rows.lasts_s
    array([60., 60., 60., 60., 60., 60.])
    >>> rows.stretch
    array([0, 0, 0, 1, 2, 2])
    """
    names, time = np.asarray(asset).astype(np.str_), np.asarray(time_s)
    if time.ndim != 1 or names.shape != time.shape or not len(time) or time.dtype.kind not in "iuf":
        raise InputError(
            f"assets have shape {names.shape}, times {time.shape} and type {time.dtype}; give one "
            "asset and one number of seconds for each of at least one row"
        )
    if max_gap_s is not None and not max_gap_s > 0:
        raise InputError(f"max_gap_s={max_gap_s} must be above 0 seconds")
    time = time.astype(np.float64)
    if not np.isfinite(time).all():
        n_wrong = int((~np.isfinite(time)).sum())
        raise InputError(f"{n_wrong} of {len(time)} times are no moments; leave out such rows")
    same = names[1:] == names[:-1]
    code = np.concatenate([[0], np.cumsum(~same)])
    assets = names[np.concatenate([[True], ~same])]
    step = np.diff(time)
    if len(np.unique(assets)) < len(assets) or not (step[same] > 0).all():
        raise InputError("rows must be sorted by asset, then by time, with no moment twice")
    period = _periods(step[same], code[1:][same], len(assets))
    limit = GAP_PERIODS * period if max_gap_s is None else np.full(len(assets), max_gap_s)
    joined = same & (step <= limit[code[1:]])
    alone = np.where(same, np.minimum(step, period[code[:-1]]), period[code[:-1]])
    lasts = np.append(np.where(joined, step, alone), period[code[-1]])
    return Timeline(assets, code, time, lasts, np.concatenate([[0], np.cumsum(~joined)]))


def runs(flagged: ArrayLike, rows: Timeline) -> Episodes:
    """Stretches of flagged rows, each as long as it can be.

    Of labels that are positive these are the faults; of scores above a threshold, the alarms of
    the simplest rule: raised by the first row, over with the last.

    Parameters
    ----------
    flagged : array-like of bool, shape (n,)
    rows : Timeline
        When the n rows were.

    Returns
    -------
    Episodes
        By asset and time. None spans a gap.

    Raises
    ------
    InputError
        There is not one truth value for each row.

    Examples
    --------
    >>> rows = timeline(["p1"] * 4 + ["p2"] * 2, [0, 60, 120, 9000, 0, 60])
    >>> found = runs([False, True, True, True, False, True], rows)
    >>> [(str(a), int(s), int(e)) for a, s, e in zip(found.asset, found.start_s, found.end_s)]
    [('p1', 60, 180), ('p1', 9000, 9060), ('p2', 60, 120)]
    """
    marked = np.asarray(flagged)
    if marked.dtype != np.bool_ or marked.shape != rows.time_s.shape:
        raise InputError(
            f"flagged has shape {marked.shape} and type {marked.dtype}; give one truth value for "
            f"each of the {len(rows)} rows"
        )
    both = marked[1:] & marked[:-1] & (np.diff(rows.stretch) == 0)
    first = marked & ~np.concatenate([[False], both])
    last = marked & ~np.concatenate([both, [False]])
    ends = rows.time_s[last] + rows.lasts_s[last]
    return Episodes(rows.assets[rows.code[first]], rows.time_s[first], ends)


class Placed(NamedTuple):
    """Episodes (k,) by asset and time, each with the row that stands when it starts."""

    row: IntArray
    start_s: FloatArray
    end_s: FloatArray


def placed(episodes: Episodes, rows: Timeline) -> Placed:
    """Episodes in the order of the rows.

    Raises
    ------
    InputError
        One starts where nothing was scored, or two of an asset overlap.
    """
    row = rows.rows_at(episodes.asset, episodes.start_s)
    order = np.lexsort([episodes.start_s, row])
    found = Placed(row[order], episodes.start_s[order], episodes.end_s[order])
    code = rows.code[found.row]
    overlapping = (code[1:] == code[:-1]) & (found.start_s[1:] < found.end_s[:-1])
    if overlapping.any():
        at = int(np.argmax(overlapping))
        raise InputError(
            f"two episodes of asset '{rows.assets[code[at]]}' overlap: one starts at "
            f"{found.start_s[at + 1]:.17g} s, before that of {found.start_s[at]:.17g} s is over; "
            "join them"
        )
    return found


def _periods(step: FloatArray, code: IntArray, n_assets: int) -> FloatArray:
    """(m,) median seconds between rows of each asset; of an asset with one row, between all."""
    overall = float(np.median(step)) if len(step) else 0.0
    period = np.full(n_assets, overall)
    for number in np.unique(code):
        period[number] = np.median(step[code == number])
    return period
