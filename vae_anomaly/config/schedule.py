"""plant.yml, `schedule`: when each flow runs by itself."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from vae_anomaly.config.section import Frozen

__all__ = ["OFF", "SCHEDULED", "Schedule"]

#: In place of a cron line: the flow never runs by itself.
OFF = "off"

#: Flows that have a schedule, in the order in which their rows need them.
SCHEDULED = ("ingest", "score", "monitor", "retrain")


class Schedule(Frozen):
    """Cron lines of the flows that `vae-anomaly serve` runs; off for one that shall not run.

    Examples
    --------
    >>> Schedule(score="*/10 * * * *", retrain="off").lines()
    {'ingest': '*/15 * * * *', 'score': '*/10 * * * *', 'monitor': '30 6 * * *'}
    """

    ingest: str = Field(default="*/15 * * * *", description="read what is new in the source")
    score: str = Field(default="5 * * * *", description="judge what has no verdict yet")
    monitor: str = Field(default="30 6 * * *", description="look for drift")
    retrain: str = Field(default="0 3 * * 0", description="train a challenger")
    zone: str = Field(default="UTC", description="IANA name of the zone of the lines")

    @field_validator(*SCHEDULED, mode="before")
    @classmethod
    def _word_off(cls, line: object) -> object:
        """YAML reads a bare off as false."""
        return OFF if line is False else line

    @field_validator(*SCHEDULED)
    @classmethod
    def _five_fields(cls, line: str) -> str:
        if line != OFF and len(line.split()) != 5:
            raise ValueError(
                f"'{line}' is not a cron line of five fields, such as '5 * * * *'; or off"
            )
        return line

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"time zone '{zone}' is not known; use an IANA name such as Europe/Berlin"
            ) from error
        return zone

    def lines(self) -> dict[str, str]:
        """Cron line of each flow that runs by itself."""
        found = {flow: str(getattr(self, flow)) for flow in SCHEDULED}
        return {flow: line for flow, line in found.items() if line != OFF}
