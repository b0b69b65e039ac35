"""Failures that people told of → how long before them the alarms were raised that lasted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import VERDICTS, Lake, rows
from vae_anomaly.decisions.episodes import Episodes, timeline
from vae_anomaly.decisions.lead_times import LeadTimes, lead_times
from vae_anomaly.steps.said import FAILURE, Said

__all__ = ["foretold"]


def foretold(
    plant: PlantConfig,
    lake: Lake,
    alarms: pa.Table,
    said: Iterable[Said],
    where: pc.Expression,
    *,
    horizon_s: float,
) -> LeadTimes | None:
    """How early alarms told of the failures of a period.

    Parameters
    ----------
    plant : PlantConfig
    lake : Lake
    alarms : pa.Table
        Rows of the table `alarms`, all raised in the period.
    said : iterable of Said
        What people said, of which failures count.
    where : pc.Expression
        Which verdicts are of the period, those of the champion's line alone.
    horizon_s : float
        How long before a failure an alarm is of use.

    Returns
    -------
    LeadTimes or None
        None where nobody told of a failure of an asset that has verdicts in the period.
    """
    failures = [entry for entry in said if entry.verdict == FAILURE]
    if not failures:
        return None
    batches = rows(lake.open(VERDICTS), columns=["asset", "time"], where=where)
    schema = lake.schema(VERDICTS).empty_table().select(["asset", "time"]).schema
    scored = pa.Table.from_batches(list(batches), schema)
    scored = scored.sort_by([("asset", "ascending"), ("time", "ascending")])
    if not scored.num_rows:
        return None
    first = pc.min(scored["time"]).cast(pa.int64()).as_py()
    times = timeline(
        scored["asset"].to_pylist(),
        _seconds(scored["time"], first),
        max_gap_s=plant.contract.sampling.max_gap_s,
    )
    own = [e for e in failures if e.start >= first and e.asset in set(times.assets.tolist())]
    if not own:
        return None
    closed = _seconds(alarms["closed"], first)
    raised = Episodes(
        np.asarray(alarms["asset"].to_pylist(), np.str_),
        _seconds(alarms["raised"], first),
        np.where(np.isnan(closed), np.inf, closed),
    )
    return lead_times(
        raised,
        times,
        failed=[entry.asset for entry in own],
        failed_s=[(entry.start - first) / 1e6 for entry in own],
        horizon_s=horizon_s,
        confidence=plant.calibration.confidence,
    )


def _seconds(moments: pa.ChunkedArray, first: int) -> np.ndarray:
    """(n,) seconds since a moment; NaN for none."""
    micros = pc.cast(moments.cast(pa.int64()), pa.float64())
    found: np.ndarray = (micros.to_numpy(zero_copy_only=False) - first) / 1e6
    return found
