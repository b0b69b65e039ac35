"""Samples → readings: each moment once, nothing invented across a gap, a span at a time.

The *watermark* of an asset is its latest sample. Its readings are formed for the moments up to
``sampling.wait_s`` before that; where a column is interpolated, only as far as the next sample is
known, or the fill limit has passed. What was formed is never changed: a sample that comes later
than that is *late*, stays in `samples`, and is counted. A moment is a reading if a sensor has a
sample in its period, or a value that still stands by its rule; other moments are a gap. Without
resampling, the moments of an asset are the times of its sensors' samples.

These transactions of `readings` make that happen once, whoever is killed or comes in between:

================== =======================================================================
``shaped:<asset>`` the moment, in microseconds since 1970, through which readings are formed
``looked``         the ingest number of samples through which late ones are counted
``late``           how many were late, ever
``shaped``         the ingest number of samples from which all that can be formed is formed
================== =======================================================================
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.data.horizons import UNKNOWN, News, Plan, plan
from vae_anomaly.data.lake import (
    INGEST,
    MAX_TRIES,
    READINGS,
    SAMPLES,
    Lake,
    commit,
    rows,
    transaction_number,
)
from vae_anomaly.data.landing import CHUNK_ROWS
from vae_anomaly.data.resampling import Rule, rules_of
from vae_anomaly.data.spans import Formed, Reach, form
from vae_anomaly.errors import LakeError

__all__ = ["Shaped", "refuse_other_layout", "shape"]

logger = logging.getLogger(__name__)

Micros = npt.NDArray[np.int64]


@dataclass
class Shaped:
    """What became of the samples of one ingest.

    Attributes
    ----------
    n_readings : int
        Readings formed.
    n_late : int
        Samples that came after the readings of their time were formed.
    filled : Counter
        Cells of each column that were carried or interpolated, out of `n_readings`.
    """

    n_readings: int = 0
    n_late: int = 0
    filled: Counter[str] = field(default_factory=Counter)


def refuse_other_layout(lake: Lake) -> None:
    """Refuse a lake whose readings came about otherwise than the contract says now.

    Raises
    ------
    LakeError
        Its readings are rows of files where they are to be formed from samples, or the other way
        round, or its samples are of the other layout.
    """
    kept = "; set lake in plant.yml to a new folder, or the contract back"
    contract = lake.contract
    readings = lake.found(READINGS)
    if readings is not None and transaction_number(readings, INGEST):
        was_shaped = transaction_number(readings, "shaped") is not None
        if was_shaped and not contract.is_shaped:
            raise LakeError(f"the readings in {lake.root} were formed from samples{kept}")
        if contract.is_shaped and not was_shaped and not _has(readings, "filled"):
            raise LakeError(
                f"the readings in {lake.root} are rows as the files have them; contract.long and "
                f"sampling.resample form readings from samples{kept}"
            )
    samples = lake.found(SAMPLES) if contract.is_shaped else None
    if samples is not None and _has(samples, "sensor") != (contract.long is not None):
        is_long = "long" if contract.long is None else "wide"
        raise LakeError(f"the samples in {lake.root} are of the {is_long} layout{kept}")


def _has(table: DeltaTable, column: str) -> bool:
    return any(f.name == column for f in table.schema().fields)


def shape(lake: Lake) -> Shaped:
    """Form all readings that the samples in the lake allow, and that are not formed yet.

    Parameters
    ----------
    lake : Lake
        Of a contract whose readings are formed from samples.

    Returns
    -------
    Shaped
        What this process formed; what a rival formed meanwhile, the rival tells.

    Raises
    ------
    LakeError
        A commit failed again and again although no rival was first.
    """
    shaped, jitter = Shaped(), random.Random()
    tries, number = 0, 0
    while not _shape_once(lake, shaped):
        now = transaction_number(lake.writable(READINGS), INGEST) or 0
        tries = tries + 1 if now == number else 0  # a rival who gets on may take its time
        number = now
        if tries == MAX_TRIES:
            raise LakeError(f"readings in {lake.root} cannot be written; see the log of the lake")
        time.sleep(jitter.uniform(0, 0.2))
    if shaped.n_late:
        logger.warning(
            "%s samples came after the readings of their time were formed; raise "
            "contract.sampling.wait_s if that is to wait for them",
            f"{shaped.n_late:,}",
        )
    return shaped


@dataclass(frozen=True)
class _State:
    """What the readings say of themselves, on the object that commits."""

    readings: DeltaTable
    samples: DeltaTable
    rules: Mapping[str, Rule]
    period_us: int

    @classmethod
    def of(cls, lake: Lake) -> _State:
        sampling = lake.contract.sampling
        period = sampling.period_s if sampling.resample != "none" else None
        period_us = 1 if period is None else max(1, round(period * 1e6))
        readings = lake.writable(READINGS)  # before the samples: these are not behind
        return cls(readings, lake.writable(SAMPLES), rules_of(lake.contract), period_us)

    def number(self, transaction: str) -> int:
        return transaction_number(self.readings, transaction) or 0

    def through(self, asset: str) -> int:
        shaped = transaction_number(self.readings, f"shaped:{asset}")
        return UNKNOWN if shaped is None else shaped


def _shape_once(lake: Lake, shaped: Shaped) -> bool:
    """Form what can be; False where a rival formed something meanwhile."""
    state = _State.of(lake)
    newest = transaction_number(state.samples, INGEST) or 0
    if newest <= state.number("shaped"):
        return True
    news = _news(state)
    due = plan(state.samples, lake.contract, state.rules, state.period_us, news)
    first = {"looked": newest, "late": state.number("late") + news.n_late}
    number, n_late = state.number(INGEST), news.n_late
    for piece, end, is_last in _pieces(lake, state, due):
        readings = lake.writable(READINGS)
        if (transaction_number(readings, INGEST) or 0) != number:
            return False
        number += 1
        # an asset of which nothing is ready yet is noted too, lest its samples be forgotten
        moved = _moved(due.reach, end, news.is_new & is_last)
        transactions = {INGEST: number} | first | moved
        if is_last:
            transactions["shaped"] = newest
        data = _with_number(piece.table, readings, number)
        if not commit(readings, data, transactions):
            return False
        shaped.n_late += n_late
        shaped.n_readings += data.num_rows
        shaped.filled += piece.filled
        first, n_late = {}, 0
    return True


def _moved(reach: Reach, end: int, is_noted: npt.NDArray[np.bool_]) -> dict[str, int]:
    """The moment through which each asset's readings are formed, once those until `end` are."""
    moved = np.minimum(reach.last, end) // reach.period_us * reach.period_us
    assets, is_moved = reach.assets.to_pylist(), (moved > reach.first) | is_noted
    return {f"shaped:{assets[at]}": int(moved[at]) for at in np.flatnonzero(is_moved)}


def _with_number(table: pa.Table, readings: DeltaTable, number: int) -> pa.Table:
    """Formed readings with all the columns of the table; null where a column is no longer named."""
    schema = pa.schema(readings.schema().to_arrow())
    n = table.num_rows
    columns = {name: table[name] for name in table.column_names}
    columns["ingest"] = pa.repeat(pa.scalar(number, pa.int64()), n)
    found = [columns.get(f.name, pa.nulls(n, f.type)).cast(f.type) for f in schema]
    return pa.table(found, schema=schema)


def _pieces(lake: Lake, state: _State, due: Plan) -> Iterator[tuple[Formed, int, bool]]:
    """Readings of one commit after another, through which moment they go, and the last of them."""
    reach, spans = due.reach, due.ends
    for nth, end in enumerate(spans):
        start = spans[nth - 1] if nth else int(reach.first.min(initial=end))
        is_due = (reach.first < end) & (reach.last > start)
        start = start if is_due.any() else end
        formed = form(state.samples, lake.contract, reach.of(is_due), state.rules, start, end)
        cuts = formed.cuts(CHUNK_ROWS)
        for at, (first, last) in enumerate(zip([0, *cuts], [*cuts, formed.n_rows], strict=True)):
            is_end = at == len(cuts)
            through = end if is_end else int(formed.moments[last - 1])
            is_last = is_end and nth == len(spans) - 1
            if last > first or is_last:
                yield formed.part(first, last), through, is_last


# ------------------------------------------------------------------------- what is there to form


def _news(state: _State) -> News:
    """One pass over the samples that landed since."""
    done, looked = state.number("shaped"), state.number("looked")
    places: dict[str, int] = {}
    through: list[int] = []
    earliest = np.zeros(0, np.int64)
    n_late = 0
    where = pc.field("ingest") > min(done, looked)
    for batch in rows(state.samples, columns=["asset", "time", "ingest"], where=where):
        encoded = batch["asset"].dictionary_encode()
        for asset in encoded.dictionary.to_pylist():
            if asset not in places:
                places[asset] = len(through)
                through.append(state.through(asset))
                earliest = np.append(earliest, np.iinfo(np.int64).max)
        own = np.array([places[a] for a in encoded.dictionary.to_pylist()])[
            encoded.indices.to_numpy()
        ]
        moment, ingest = batch["time"].cast(pa.int64()).to_numpy(), batch["ingest"].to_numpy()
        np.minimum.at(earliest, own, moment)
        n_late += int(((ingest > looked) & (moment <= np.array(through)[own])).sum())
    bounds = np.array(through, np.int64)
    is_new = bounds == UNKNOWN
    before = np.where(is_new, (earliest - 1) // state.period_us * state.period_us, bounds)
    return News(pa.array(list(places), pa.string()), before, is_new, n_late)
