"""What the order of a file's rows says of the clocks that stamped them.

Rows come in the order in which they were written. So of the two moments that a local time can be
when a zone's clocks are put back, the one is meant that follows the asset's row before it best; a
time that falls otherwise is a row out of order, or a clock that somebody set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from vae_anomaly.data.cells import Mask
from vae_anomaly.data.times import Later, Micros

__all__ = ["FileClock", "OrderReport"]


@dataclass(frozen=True)
class OrderReport:
    """Rows of a file that lie before a row that stands above them, asset by asset.

    Attributes
    ----------
    n_out_of_order : int
        Rows earlier than the latest one of their asset so far.
    largest_step_back_s : float
        How far the time of an asset fell at most from one row to the next.
    at_row : int
        Number of the row at which it did; 0 where none did.
    """

    n_out_of_order: int = 0
    largest_step_back_s: float = 0.0
    at_row: int = 0


@dataclass
class FileClock:
    """State of the clocks of one file, batch after batch, from its first row on.

    Parameters
    ----------
    period_s : float
        Seconds between the rows of an asset, 0 where not known.
    """

    period_s: float = 0.0
    order: OrderReport = field(default_factory=OrderReport)
    _latest: dict[str, int] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    def later(self, assets: pa.Array) -> Later:
        """Decide on the local times of the next batch, whose rows belong to these assets."""
        return partial(self._second_pass, assets)

    def _second_pass(self, assets: pa.Array, first: Micros, overlap: Micros) -> Mask:
        """Of the two moments, the one nearer to a period after the asset's row before it."""
        is_second = np.zeros(len(first), dtype=bool)
        period = self.period_s * 1e6
        last = dict(self._last)
        moments = zip(assets.to_pylist(), first.tolist(), overlap.tolist(), strict=True)
        for at, (asset, moment, back) in enumerate(moments):
            if back < 0:
                continue
            due = last.get(asset, moment) + period
            is_second[at] = back > 0 and abs(moment + back - due) < abs(moment - due)
            last[asset] = moment + back if is_second[at] else moment
        return is_second

    def note(self, assets: pa.Array, times: pa.Array, rows: pa.Array) -> None:
        """Take in the times (n,) of the next rows, null where they have none.

        Parameters
        ----------
        assets, times, rows : pa.Array
            The asset, the moment in UTC and the number of each row.
        """
        is_there = times.is_valid()
        micros = times.filter(is_there).cast(pa.int64()).to_numpy()
        number = rows.filter(is_there).to_numpy()
        encoded = assets.filter(is_there).dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        names = encoded.dictionary.to_pylist()
        if len(names) == 1 and (codes == 0).all():
            self._note_asset(names[0], micros, number)
            return
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(names) + 1))
        for name, (first, last) in zip(names, pairwise(edges), strict=True):
            own = order[first:last]
            self._note_asset(name, micros[own], number[own])

    def _note_asset(self, asset: str, micros: Micros, number: np.ndarray) -> None:
        if not len(micros):
            return
        before = self._last.get(asset, int(micros[0]))
        latest = max(self._latest.get(asset, int(micros[0])), int(micros[0]))
        step = np.diff(micros, prepend=before)
        if (step < 0).any() or micros[0] < latest:
            highest = np.maximum.accumulate(np.concatenate([[latest], micros[:-1]]))
            worst = int(step.argmin())
            fell, at = -float(step[worst]) / 1e6, int(number[worst])
            if fell <= self.order.largest_step_back_s:
                fell, at = self.order.largest_step_back_s, self.order.at_row
            n_back = self.order.n_out_of_order + int((micros < highest).sum())
            self.order = OrderReport(n_back, fell, at)
            latest = max(latest, int(highest[-1]))
        self._latest[asset] = max(latest, int(micros[-1]))
        self._last[asset] = int(micros[-1])
