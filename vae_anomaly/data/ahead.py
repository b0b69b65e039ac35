"""Rows whose time lies after now: a wrong clock, zone or format, and no reading.

One of them would be the latest of its asset for years, and all that comes after it would be late.
Whether a row is one depends on the moment of the ingest. So that an ingest which was killed refuses
the same rows when it is run again, the commit that first leaves out a row of a file notes its limit
(`data.landing`).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.data.cells import Mask, as_mask
from vae_anomaly.data.refusals import refused_readings
from vae_anomaly.data.times import MOMENT

__all__ = ["LOOK_AT", "TIME_AHEAD", "is_ahead", "refused_ahead"]

#: The reason for which they are refused.
TIME_AHEAD = "time_ahead"

#: What to do about them.
LOOK_AT = (
    "look at the clock that stamped them, and at contract.time (order of day and month, unit of "
    "epoch, zone); for a replay whose clock runs ahead set source.max_ahead_s: null"
)


def is_ahead(times: pa.Array | pa.ChunkedArray, latest: int) -> Mask:
    """(n,) which moments lie after the last one that a row may have, in microseconds since 1970.

    Examples
    --------
    >>> is_ahead(pa.array([1, 9, None], MOMENT), 5)
    array([False,  True, False])
    """
    return as_mask(pc.greater(times, pa.scalar(latest, MOMENT)))


def refused_ahead(rows: pa.Table, latest: int) -> pa.Table:
    """Rows after that moment, as the quarantine has them."""
    limit = f"{pa.scalar(latest, MOMENT).as_py():%Y-%m-%d %H:%M:%S} UTC"
    details = [
        f"{time:%Y-%m-%d %H:%M:%S} UTC lies after {limit}, the moment of ingest and "
        f"source.max_ahead_s; {LOOK_AT}"
        for time in rows["time"].to_pylist()
    ]
    return refused_readings(rows, TIME_AHEAD, details)
