"""plant.yml, `monitoring`: how long a stretch is held against what is normal, and how strictly."""

from __future__ import annotations

import re
from datetime import timedelta

from pydantic import Field, field_validator

from vae_anomaly.config.section import Frozen

__all__ = ["Monitoring"]

_HOURS = {"hour": 1, "day": 24, "week": 168}
_WINDOW = re.compile(r"(?P<number>\d+) (?P<unit>hour|day|week)s?")


class Monitoring(Frozen):
    """What `monitor` asks of the plant.

    Attributes
    ----------
    window : str
        A day by default: most plants have its cycle, and a history of two weeks shows how far one
        day lies from another. A longer one sees smaller changes, and needs a history of at least
        five such windows.
    false_drift_rate : float
        In so large a share of windows any drift at all is said of a plant in which nothing changes,
        however many sensors and assets it has. At one window a day, 0.01 is three or four a year.
    retrain : bool
        Whether a change of regime runs the deployment `retrain`; its result is a challenger.

    Examples
    --------
    >>> Monitoring(window="7 days").length
    datetime.timedelta(days=7)
    """

    window: str = Field(default="1 day", description="hours, days or weeks, such as '7 days'")
    false_drift_rate: float = Field(default=0.01, gt=0, lt=0.5)
    retrain: bool = Field(default=True, description="a change of regime trains a challenger")

    @field_validator("window")
    @classmethod
    def _in_words(cls, window: str) -> str:
        match = _WINDOW.fullmatch(window)
        if match is None or not int(match["number"]):
            raise ValueError(f"'{window}' is no length; write '1 day', '12 hours' or '2 weeks'")
        return window

    @property
    def length(self) -> timedelta:
        """The window's length."""
        match = _WINDOW.fullmatch(self.window)
        assert match is not None  # the validator saw to it
        return timedelta(hours=int(match["number"]) * _HOURS[match["unit"]])
