"""What alarms ask of the people who answer them: the figures of ISA-18.2 and IEC 62682."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vae_anomaly.decisions.occurrences import DAY_S, Occurrences
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.errors import InputError

__all__ = ["AlarmLoad", "alarm_load"]

#: Periods by which alarms are counted; a flood begins with more than so many in one, and ends with
#: fewer than so many (ISA-18.2-2016, 16.5).
PERIOD_S, FLOOD_FROM, FLOOD_UNTIL = 600.0, 10, 5

#: What is raised so often within so many seconds chatters (ISA-18.2-2016, 3.1).
CHATTER_TIMES, CHATTER_S = 3, 60.0


@dataclass(frozen=True)
class AlarmLoad:
    """Alarms of some assets over some time.

    Attributes
    ----------
    n_alarms : int
    per_asset_day : Interval
    peak : int
        Most alarms in ten minutes; the standard takes up to 10 as what one person can answer.
    flood_share : float
        Share of the time from the first alarm to the last in which they came too fast for that.
    n_chattering : int
        Alarms that were raised three times or more, or within a minute of two others of the asset.
    """

    n_alarms: int
    per_asset_day: Interval
    peak: int
    flood_share: float
    n_chattering: int


def alarm_load(
    raised: ArrayLike, asset: ArrayLike, n_raised: ArrayLike, *, asset_s: float
) -> AlarmLoad:
    """Figures of the standard for alarms that one person has to answer.

    Parameters
    ----------
    raised : array-like of shape (n,)
        Microseconds since 1970.
    asset : array-like of shape (n,)
        Number or name of the asset of each.
    n_raised : array-like of shape (n,), integers
        How often each was raised.
    asset_s : float
        Seconds that the assets were watched, all together.

    Raises
    ------
    InputError
        Lengths differ, or nothing was watched.

    References
    ----------
    ANSI/ISA-18.2-2016, Management of alarm systems for the process industries, clause 16;
    IEC 62682:2022.

    Examples
    --------
    >>> found = alarm_load([0, 10**7, 2 * 10**7], ["a", "a", "a"], [1, 1, 1], asset_s=86400.0)
    >>> found.per_asset_day.value, found.peak, found.n_chattering
    (3.0, 3, 3)
    """
    moment, whose, times = np.asarray(raised, np.int64), np.asarray(asset), np.asarray(n_raised)
    if not len(moment) == len(whose) == len(times):
        raise InputError(
            f"{len(moment)} times, {len(whose)} assets and {len(times)} counts; give one each of "
            "every alarm"
        )
    if not asset_s > 0:
        raise InputError(f"asset_s={asset_s}: nothing was watched, so that there is no rate")
    per_day = Occurrences(np.array([len(moment)]), np.array([asset_s / DAY_S])).interval()
    since = moment - moment.min(initial=np.iinfo(np.int64).max)
    counts: list[int] = np.bincount(since // int(PERIOD_S * 1e6)).tolist()
    rising = np.sort(moment)
    behind = np.searchsorted(rising, rising + int(PERIOD_S * 1e6))
    peak = int((behind - np.arange(len(rising))).max(initial=0))
    chatters = times >= CHATTER_TIMES
    for name in np.unique(whose):
        own = np.flatnonzero(whose == name)
        own = own[np.argsort(moment[own], kind="stable")]
        last = np.arange(CHATTER_TIMES - 1, len(own))
        close = moment[own[last]] - moment[own[last - CHATTER_TIMES + 1]] <= CHATTER_S * 1e6
        for end in last[close]:
            chatters[own[end - CHATTER_TIMES + 1 : end + 1]] = True
    return AlarmLoad(len(moment), per_day, peak, _flooded(counts), int(chatters.sum()))


def _flooded(counts: Sequence[int]) -> float:
    """Share of periods that belong to a flood."""
    flooded, n_flooded = False, 0
    for n in counts:
        flooded = n >= FLOOD_UNTIL if flooded else n > FLOOD_FROM
        n_flooded += flooded
    return n_flooded / len(counts) if counts else 0.0
