"""Learning is frozen while an alarm is open: what is learnt then may be the fault itself."""

from __future__ import annotations

from dataclasses import dataclass

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import ALARMS, Lake, as_timestamp
from vae_anomaly.decisions.alarms import ACTIVE, LATCHED
from vae_anomaly.steps.said import Alarm, raised_alarms, read_said

__all__ = ["Freeze", "frozen"]

#: Alarms that a message names.
MOST_NAMED = 3


@dataclass(frozen=True)
class Freeze:
    """The alarms that nobody has answered, the oldest first; nothing is frozen without any."""

    alarms: tuple[Alarm, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.alarms)

    def in_words(self) -> str:
        """Why nothing is trained, and what to do.

        Examples
        --------
        >>> one = Alarm("9ec0ed", "pump-01", 0, 1, "active")
        >>> print(Freeze((one,)).in_words())  # doctest: +NORMALIZE_WHITESPACE
        frozen: alarm 9ec0ed of pump-01 is open since 1970-01-01 00:00 UTC; say what it is with
        `vae-anomaly label`, or train with --even-so
        """
        named = [f"{a.alarm_id} of {a.asset}" for a in self.alarms[:MOST_NAMED]]
        more = len(self.alarms) - len(named)
        which = ", ".join(named) + (f" and {more} more" if more else "")
        since = f"since {as_timestamp(self.alarms[0].start).as_py():%Y-%m-%d %H:%M} UTC"
        what = "`vae-anomaly label`, or train with --even-so"
        if len(self.alarms) == 1:
            return f"frozen: alarm {which} is open {since}; say what it is with {what}"
        return f"frozen: alarms {which} are open, the first {since}; say what they are with {what}"


def frozen(plant: PlantConfig) -> Freeze:
    """Alarms of a plant that are active or latched, and that no person has said anything of.

    Any one of them freezes the whole plant: its package is trained in one go, of all assets. An
    alarm that was called a false one freezes nothing, though it may still be active.

    Parameters
    ----------
    plant : PlantConfig
    """
    lake = Lake(plant.lake, plant.contract)
    if lake.found(ALARMS) is None:
        return Freeze()
    answered = {entry.alarm_id for entry in read_said(lake)}
    found = [
        alarm
        for alarm in raised_alarms(lake).values()
        if alarm.state in (ACTIVE, LATCHED) and alarm.alarm_id not in answered
    ]
    return Freeze(tuple(sorted(found, key=lambda alarm: (alarm.start, alarm.alarm_id))))
