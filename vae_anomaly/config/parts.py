"""plant.yml, `parts` and `exclusions`: which rows do which job, and which do none."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vae_anomaly.config.section import Frozen

__all__ = ["PARTS", "Exclusion", "Part", "PartRange", "Parts"]

Part = Literal["train", "stop", "calibrate", "test"]
PARTS: tuple[Part, ...] = ("train", "stop", "calibrate", "test")


class PartRange(Frozen):
    """Rows of some assets that belong to one part; a row may belong to one part only."""

    part: Part
    assets: tuple[str, ...] = Field(default=("*",), description="names or globs")
    share: tuple[float, float] = Field(
        default=(0.0, 1.0), description="from, to: share of the asset's rows in time order"
    )
    start: datetime | None = None
    end: datetime | None = None

    @field_validator("share")
    @classmethod
    def _ordered(cls, share: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= share[0] < share[1] <= 1:
            raise ValueError(f"share {list(share)} must rise within 0 and 1, as [0, 0.8] does")
        return share

    @field_validator("start", "end")
    @classmethod
    def _zoned(cls, value: datetime | None) -> datetime | None:
        return with_zone(value)


class Parts(Frozen):
    """Shares of each asset's rows in time order, or a list that says it part by part."""

    train: float = Field(default=0.5, gt=0, lt=1)
    stop: float = Field(default=0.1, gt=0, lt=1)
    calibrate: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    listed: tuple[PartRange, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Parts:
        if self.listed:
            given = self.model_fields_set & set(PARTS)
            if given:
                raise ValueError(
                    f"parts.listed and parts.{min(given)} are both given; keep one of them"
                )
            for part in ("train", "stop", "calibrate"):
                if not any(entry.part == part for entry in self.listed):
                    raise ValueError(f"parts.listed has no entry for part '{part}'; add one")
        elif abs(self.train + self.stop + self.calibrate + self.test - 1) > 1e-6:
            total = self.train + self.stop + self.calibrate + self.test
            raise ValueError(f"train + stop + calibrate + test is {total:g}; it must be 1")
        return self

    def ranges(self) -> tuple[PartRange, ...]:
        """The parts as ranges, whichever way they were given."""
        if self.listed:
            return self.listed
        edges = [0.0, self.train, self.train + self.stop, 1.0 - self.test, 1.0]
        return tuple(
            PartRange(part=part, share=(low, high))
            for part, (low, high) in zip(PARTS, pairwise(edges), strict=True)
            if high > low
        )


class Exclusion(Frozen):
    """Rows that belong to no part: a maintenance window, or a table of such windows."""

    start: datetime | None = None
    end: datetime | None = None
    assets: tuple[str, ...] = Field(default=("*",), description="names or globs")
    reason: str = ""
    path: str = Field(
        default="", description="CSV or Parquet table with start, end and perhaps asset, reason"
    )

    @field_validator("start", "end")
    @classmethod
    def _zoned(cls, value: datetime | None) -> datetime | None:
        return with_zone(value)

    @model_validator(mode="after")
    def _consistent(self) -> Exclusion:
        if self.path:
            if self.start is not None or self.end is not None:
                raise ValueError("an exclusion has either a path, or start and end")
        elif self.start is None or self.end is None:
            raise ValueError("an exclusion needs start and end, or the path of a table of them")
        elif self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self


def with_zone(value: datetime | None) -> datetime | None:
    """Refuse a time of which it is not known where on earth it was."""
    if value is not None and value.tzinfo is None:
        raise ValueError(f"{value} has no zone; write 2026-03-09T10:00:00Z or +01:00")
    return value
