"""plant.yml, `alarms` and `calibration.budget`: when verdicts become alarms, and how many may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vae_anomaly.config.parts import Exclusion
from vae_anomaly.config.section import Frozen

__all__ = ["SECONDS", "AlarmRule", "Alarms", "Budget"]

#: Seconds of each period that a budget may be for.
SECONDS: Mapping[str, float] = {
    "hour": 3600.0,
    "day": 86_400.0,
    "week": 604_800.0,
    "month": 30 * 86_400.0,
    "year": 365 * 86_400.0,
}

_BUDGET = re.compile(
    r"(?P<alarms>\d+(\.\d+)?)( alarms?)?( per asset)? (per|a) (?P<per>hour|day|week|month|year)"
)


class AlarmRule(Frozen):
    """When rows over the threshold become an alarm, and when that alarm is over.

    The words are those of ISA-18.2 and IEC 62682.

    Attributes
    ----------
    raise_after, out_of : int
        On-delay: so many rows over the threshold among the last so many raise an alarm; without
        `out_of`, so many one after another.
    clear_after : int
        Off-delay: so many clear rows one after another end it.
    clear_p_value : float
        Deadband: a row is clear if so large a share of normal rows scores at least as high; 0 means
        every row that is not over the threshold. A share and no score, so that it holds for any
        score, and for the next model too.
    min_gap_s : float
        What is raised again within so many seconds is the same alarm, which goes on.
    latched : bool
        An alarm that is over stays until a person has answered it.
    re_alarm_s : float
        An alarm that lasts is announced again each time that so many seconds have passed; 0 never.

    Examples
    --------
    >>> AlarmRule(raise_after=2, out_of=3).in_words()
    '2 of 3 rows over the threshold raise an alarm, 1 clear row ends it'
    """

    raise_after: int = Field(default=1, ge=1, description="on-delay: rows over the threshold …")
    out_of: int = Field(default=1, ge=1, description="… among so many rows")
    clear_after: int = Field(default=1, ge=1, description="off-delay: clear rows one after another")
    clear_p_value: float = Field(
        default=0.0, ge=0, lt=1, description="deadband: clear is what so many normal rows reach"
    )
    min_gap_s: float = Field(
        default=0.0, ge=0, le=SECONDS["year"], description="raised again within: the same alarm"
    )
    latched: bool = Field(default=False, description="stays until a person has answered it")
    re_alarm_s: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="announced again so often; 0 never"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_after_another(cls, given: object) -> object:
        if isinstance(given, dict) and "raise_after" in given and "out_of" not in given:
            return {**given, "out_of": given["raise_after"]}
        return given

    @model_validator(mode="after")
    def _possible(self) -> AlarmRule:
        if self.raise_after > self.out_of:
            raise ValueError(
                f"raise_after={self.raise_after} rows among out_of={self.out_of} cannot be; give "
                "an out_of of at least raise_after"
            )
        return self

    @property
    def replayed(self) -> AlarmRule:
        """The rule where nobody answers: a latched alarm would never be over."""
        return self.model_copy(update={"latched": False})

    def in_words(self) -> str:
        """The rule as a sentence without its full stop."""
        of = f"{self.raise_after} of {self.out_of} rows" if self.out_of > 1 else "1 row"
        verb = "raise" if self.out_of > 1 else "raises"
        clear = "clear rows one after another end" if self.clear_after > 1 else "clear row ends"
        said = f"{of} over the threshold {verb} an alarm, {self.clear_after} {clear} it"
        if self.clear_p_value:
            said += f"; clear is a score that {self.clear_p_value:.2%} of normal rows reach"
        if self.min_gap_s:
            said += f"; what is raised again within {self.min_gap_s:g} s is the same alarm"
        return said + ("; it stays until a person has answered it" if self.latched else "")


class Budget(Frozen):
    """How many alarms of an asset that is well people put up with.

    Examples
    --------
    >>> Budget.model_validate("2 alarms per asset per week")
    Budget(alarms=2.0, per='week')
    """

    alarms: float = Field(gt=0, allow_inf_nan=False)
    per: Literal["hour", "day", "week", "month", "year"] = "week"

    @model_validator(mode="before")
    @classmethod
    def _of_words(cls, given: object) -> object:
        if isinstance(given, str):
            match = _BUDGET.fullmatch(" ".join(given.split()))
            if match is None:
                raise ValueError(
                    f"'{given}' is no budget; write '2 alarms per asset per week', with hour, day, "
                    "week, month or year"
                )
            return match.groupdict()
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        return {"alarms": given} if is_number else given

    @property
    def per_second(self) -> float:
        """Alarms of an asset in a second."""
        return self.alarms / SECONDS[self.per]

    def in_words(self) -> str:
        """As people write it."""
        return f"{self.alarms:g} alarm{'' if self.alarms == 1 else 's'} per asset per {self.per}"


class Alarms(Frozen):
    """What becomes of rows over the threshold."""

    rule: AlarmRule | None = Field(
        default=None,
        description="none: chosen with the threshold by calibration.budget, else every row is one",
    )
    maintenance: tuple[Exclusion, ...] = Field(
        default=(), description="windows in which nothing is raised, or a table of them"
    )

    @field_validator("rule", mode="before")
    @classmethod
    def _word_auto(cls, rule: object) -> object:
        return None if rule == "auto" else rule
