"""Through which moment the readings of an asset are ready, and in which spans they are formed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import Contract
from vae_anomaly.data.lake import as_timestamp, rows
from vae_anomaly.data.resampling import Rule
from vae_anomaly.data.spans import Reach

__all__ = ["UNKNOWN", "News", "Plan", "plan"]

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Samples, or cells of readings, that are in memory at once.
SPAN_CELLS = 2_000_000
#: Narrowest bin in which samples are counted over time, and how many bins there are at most.
BIN_US, MAX_BINS = 60_000_000, 100_000

UNKNOWN = np.iinfo(np.int64).min


@dataclass(frozen=True)
class News:
    """Assets with samples that were not looked at yet, from where on, and how many are late."""

    assets: pa.Array
    through: Micros  # (n_assets,) formed through this moment; before the first sample if never
    is_new: npt.NDArray[np.bool_]  # (n_assets,) never
    n_late: int


@dataclass(frozen=True)
class Plan:
    """What is to be formed now, and the ends of the spans in which that is done."""

    reach: Reach
    ends: list[int]


def plan(
    samples: DeltaTable, contract: Contract, rules: Mapping[str, Rule], period_us: int, news: News
) -> Plan:
    """Through which moment each asset's readings are ready, and the ends of spans until then.

    Parameters
    ----------
    samples : DeltaTable
    contract : Contract
    rules : mapping of str to Rule
        Of every column.
    period_us : int
        1 without resampling.
    news : News
    """
    limit = max(rule.limit_us for rule in rules.values())
    counted = _Counted(news)
    where = pc.field("asset").isin(news.assets)
    if len(news.assets):
        where &= pc.field("time") > as_timestamp(int(news.through.min()))
        for batch in rows(samples, columns=["asset", "time"], where=where):
            counted.add(batch)
    horizon = counted.latest - round(contract.sampling.wait_s * 1e6)
    last = _ready(samples, contract, rules, news.assets, horizon) // period_us * period_us
    last = np.where(news.is_new, last, np.maximum(last, news.through))
    reach = Reach(news.assets, news.through, last, period_us, limit)
    return Plan(reach, counted.ends(reach, contract.long is None, len(rules)))


def _ready(
    samples: DeltaTable,
    contract: Contract,
    rules: Mapping[str, Rule],
    assets: pa.Array,
    horizon: Micros,
) -> Micros:
    """(n_assets,) moments through which every rule knows all that it needs to.

    A column that is interpolated is decided up to its last sample within the horizon, and beyond
    it if that sample has no value, or the next one would be too far from it.
    """
    names = [name for name, rule in rules.items() if rule.how == "interpolate"]
    if not names or not len(horizon):
        return horizon
    limit = np.array([rules[name].limit_us for name in names])
    where = (
        pc.field("asset").isin(assets)
        & (pc.field("time") > as_timestamp(int(horizon.min() - limit.max() - 1)))
        & (pc.field("time") <= as_timestamp(int(horizon.max())))
    )
    if contract.long is not None:
        where &= pc.field("sensor").isin(names)
    columns = names if contract.long is None else ["sensor", "value"]
    latest = _Latest(len(assets), len(names))
    for batch in rows(samples, columns=["asset", "time", *columns], where=where):
        own = pc.index_in(batch["asset"], value_set=assets).to_numpy()
        moment = batch["time"].cast(pa.int64()).to_numpy()
        is_within = moment <= horizon[own]
        first = own.astype(np.int64) * len(names)
        if contract.long is not None:
            place = pc.index_in(batch["sensor"], value_set=pa.array(names)).to_numpy()
            latest.note(first + place, moment, _is_valid(batch["value"]), is_within)
            continue
        for place, name in enumerate(names):
            is_sample = is_within & _is_valid(batch[name])
            is_good = ~np.isnan(batch[name].to_numpy(zero_copy_only=False))
            latest.note(first + place, moment, is_good, is_sample)
    return latest.open_until(horizon, limit)


def _is_valid(column: pa.Array) -> Mask:
    mask: Mask = column.is_valid().to_numpy(zero_copy_only=False)
    return mask


class _Latest:
    """The last sample of each asset's columns, and whether it has a value."""

    def __init__(self, n_assets: int, n_columns: int) -> None:
        self.n_columns = n_columns
        self.moment = np.full(n_assets * n_columns, UNKNOWN)
        self.is_good = np.zeros(n_assets * n_columns, bool)

    def note(self, series: Micros, moment: Micros, is_good: Mask, where: Mask) -> None:
        """Take in those samples of a batch that a mask names; a series is asset and column."""
        series, moment, is_good = series[where], moment[where], is_good[where]
        before = self.moment[series]
        np.maximum.at(self.moment, series, moment)
        is_last = (moment > before) & (moment == self.moment[series])
        self.is_good[series[is_last]] = is_good[is_last]

    def open_until(self, horizon: Micros, limit: Micros) -> Micros:
        """(n_assets,) the first of the last samples from which a line may go on beyond."""
        moment = self.moment.reshape(-1, self.n_columns)
        is_open = self.is_good.reshape(moment.shape) & (moment > horizon[:, None] - limit)
        ready: Micros = np.where(is_open, moment, horizon[:, None]).min(axis=1)
        return ready


class _Counted:
    """Samples over time, in bins that grow wider as the time grows long."""

    def __init__(self, news: News) -> None:
        self.news = news
        self.latest = news.through.copy()
        self.width = BIN_US
        self.bins = np.zeros(0, np.int64)
        self.counts = np.zeros(0, np.int64)

    def add(self, batch: pa.RecordBatch) -> None:
        own = pc.index_in(batch["asset"], value_set=self.news.assets).to_numpy()
        moment = batch["time"].cast(pa.int64()).to_numpy()
        is_new = moment > self.news.through[own]
        np.maximum.at(self.latest, own[is_new], moment[is_new])
        bins, counts = np.unique(moment // self.width, return_counts=True)
        self._merge(np.concatenate([self.bins, bins]), np.concatenate([self.counts, counts]))
        while len(self.bins) > MAX_BINS:
            self.width *= 2
            self._merge(self.bins // 2, self.counts)

    def _merge(self, bins: Micros, counts: Micros) -> None:
        self.bins, place = np.unique(bins, return_inverse=True)
        self.counts = np.bincount(place, weights=counts).astype(np.int64)

    def ends(self, reach: Reach, is_wide: bool, n_columns: int) -> list[int]:
        """Ends of spans whose samples, and whose cells of readings, are not too many."""
        stop = int(reach.last.max(initial=UNKNOWN + 1))
        starts = self.bins * self.width
        length = np.diff(starts, append=max(stop, int(starts.max(initial=stop))))
        length = np.minimum(length, self.width + reach.limit_us)
        # without a grid there are no more readings than samples
        moments = length / reach.period_us * len(reach.assets) if reach.period_us > 1 else 0.0
        cost = np.maximum(self.counts * (n_columns if is_wide else 1), moments * n_columns)
        found: list[int] = []
        spent = 0.0
        for start, span, cells in zip(starts.tolist(), length.tolist(), cost.tolist(), strict=True):
            if spent and spent + cells > SPAN_CELLS:
                found.append(start - 1)
                spent = 0.0
            n_parts = int(cells // SPAN_CELLS) + 1
            found += [start + span * part // n_parts for part in range(1, n_parts)]
            spent += cells / n_parts
        begin = int(reach.first.min(initial=stop))
        return [*(end for end in found if begin < end < stop), stop]
