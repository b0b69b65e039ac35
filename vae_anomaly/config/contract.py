"""plant.yml, `contract`: what a row must have to be accepted, and how its cells are understood."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from vae_anomaly.config.condition import Kind, columns_of, held_against, parse
from vae_anomaly.config.section import Frozen, as_column, as_named

__all__ = [
    "MISSING_TEXTS",
    "RESERVED",
    "AssetName",
    "Contract",
    "LongLayout",
    "Quality",
    "Resampling",
    "RunCondition",
    "Sampling",
    "Sensor",
    "TimeColumn",
]

#: Columns of the lake's own; a sensor of this name would be overwritten.
RESERVED = ("asset", "time", "label", "mode", "content_id", "row", "ingest", "filled")

#: What historians write where they have no value: OPC qualities, PI's system states, spreadsheets.
MISSING_TEXTS = (
    "--", "---", "-", "?", "*", "Bad", "Bad Input", "Bad Data", "Bad Quality", "Bad Value",
    "Calc Failed", "Comm Fail", "Configure", "Device Failure", "Equip Fail", "Error", "I/O Timeout",
    "Inp OutRange", "Inp OutofRange", "Intf Shut", "Invalid", "Invalid Data", "Missing", "No Data",
    "No Good", "No Lab Data", "No Sample", "No Value", "Not Connect", "Out of Serv", "Over Range",
    "Under Range", "Pt Created", "Resize to show all values", "Scan Off", "Scan Timeout",
    "Sensor Failure", "Shutdown", "Tag not found", "Timeout", "Trace", "Unit Down", "Unknown",
    "#DIV/0!", "#ERROR!", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#WERT!",
)  # fmt: skip

#: How a sensor's samples become its value at a moment of the plant's period.
Resampling = Literal["none", "last", "mean", "interpolate"]


class Sensor(Frozen):
    """One measured column, its unit and its physical range."""

    name: str = Field(min_length=1)
    unit: str = ""
    kind: Literal["continuous", "binary", "categorical"] = "continuous"
    levels: tuple[str, ...] = ()
    low: float | None = Field(default=None, description="physically lowest value")
    high: float | None = Field(default=None, description="physically highest value")
    missing: Literal["allowed", "refused"] = "allowed"
    quality: str = Field(default="", description="column with the quality code of this one")
    resample: Resampling | None = Field(default=None, description="none: as `sampling` says")
    fill_limit_s: float | None = Field(default=None, ge=0, description="likewise")

    @model_validator(mode="after")
    def _consistent(self) -> Sensor:
        if self.kind == "categorical":
            if len(set(self.levels)) < 2 or len(set(self.levels)) != len(self.levels):
                raise ValueError(
                    f"'{self.name}': kind 'categorical' needs its levels, two or more, each once: "
                    "levels: [L, M, H]"
                )
            if self.low is not None or self.high is not None:
                raise ValueError(f"'{self.name}': a categorical column has no low or high")
        elif self.levels:
            raise ValueError(f"sensor '{self.name}': levels belong to kind 'categorical'")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"sensor '{self.name}': low={self.low} is not below high={self.high}")
        if self.name in RESERVED or self.name.startswith("_"):
            raise ValueError(
                f"sensor '{self.name}': this name is the lake's own ({', '.join(RESERVED)}, or a "
                "leading underscore); rename the column"
            )
        return self


SensorEntry = Annotated[Sensor, BeforeValidator(as_named)]


class TimeColumn(Frozen):
    """The column with the time of a row, and how to read it."""

    column: str = Field(default="", description="none: a row's number in its file counts steps")
    zone: str = "UTC"
    format: str | None = Field(default=None, description="strptime format; none reads ISO 8601")
    epoch: Literal["s", "ms", "us", "ns"] | None = Field(
        default=None, description="the column counts these since 1970, in UTC"
    )
    step_s: float | None = Field(
        default=None, gt=0, description="the column counts steps of so many seconds from 1970 on"
    )
    ambiguous: Literal["order", "first", "second"] = Field(
        default="order",
        description="which of two equal local times is meant when clocks are put back: what the "
        "order of an asset's rows in a file says, always the first, always the second",
    )

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"time zone '{zone}' is not known; use an IANA name such as Europe/Berlin"
            ) from error
        return zone

    @model_validator(mode="after")
    def _one_reading(self) -> TimeColumn:
        given = [name for name in ("format", "epoch", "step_s") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"time: {given[0]} and {given[1]} are both given; keep one of them")
        if not self.column and self.step_s is None:
            raise ValueError("time: give the column, or step_s if the rows have no time")
        return self


class AssetName(Frozen):
    r"""Which asset a row is of: what a column says, one name for all rows, or a part of the file's.

    Examples
    --------
    >>> Contract(time="time", asset="pump", sensors=("flow",)).asset_column
    'pump'
    >>> AssetName(from_file=r"^(.+)_\d{8}").model_dump()
    {'from_file': '^(.+)_\\d{8}'}
    """

    column: str = Field(default="", description="column with the asset of each row")
    name: str = Field(default="", description="all files are of this one")
    from_file: str = Field(
        default="",
        description="regular expression with one group, looked for in the file's name without its "
        "endings; in its whole path, if there is a / in the expression",
    )

    @field_validator("from_file")
    @classmethod
    def _one_group(cls, expression: str) -> str:
        try:
            n_groups = re.compile(expression).groups
        except re.error as error:
            raise ValueError(f"'{expression}' is no regular expression: {error}") from error
        if expression and n_groups != 1:
            raise ValueError(
                f"'{expression}' has {n_groups} groups; put the part that names the asset, and "
                r"nothing else, in round brackets: '^(.+)_\d{8}'; (?:…) makes no group"
            )
        return expression

    @model_validator(mode="after")
    def _one_of_three(self) -> AssetName:
        given = [key for key, text in self if text.strip()]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'nothing'} is given; give one of column, name and "
                "from_file, or leave asset out: then each file is an asset"
            )
        return self

    @model_serializer
    def _as_written(self) -> str | dict[str, str]:
        """A column as a bare name, as plant files have it and digests know it."""
        return self.column or {key: text for key, text in self if text}


class Sampling(Frozen):
    """How rows follow one another in time, and how a steady period is made of them."""

    period_s: float | None = Field(default=None, gt=0, description="seconds between rows")
    max_gap_s: float | None = Field(default=None, gt=0, description="a longer gap cuts a window")
    resample: Resampling = Field(
        default="none",
        description="none keeps the times as they are; last, mean or interpolate make one reading "
        "a period",
    )
    fill_limit_s: float | None = Field(
        default=None, ge=0, description="how long a value may stand; none means max_gap_s"
    )
    wait_s: float = Field(
        default=0.0, ge=0, description="how long a reading waits for samples that come late"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Sampling:
        if self.resample != "none":
            if self.period_s is None:
                raise ValueError("sampling.resample needs sampling.period_s")
            if self.max_gap_s is None and self.fill_limit_s is None:
                raise ValueError(
                    "sampling.resample needs sampling.max_gap_s, or a fill_limit_s: how long a "
                    "value may be carried on"
                )
        if (
            self.fill_limit_s is not None
            and self.max_gap_s is not None
            and self.fill_limit_s > self.max_gap_s
        ):
            raise ValueError(
                f"fill_limit_s={self.fill_limit_s:g} is above max_gap_s={self.max_gap_s:g}: values "
                "would be invented across a gap"
            )
        return self


class LongLayout(Frozen):
    """A table with a row for each value: its tag, its time, the value."""

    tag: str = "tag"
    value: str = "value"


class Quality(Frozen):
    """Which values count as missing although a cell has something in it."""

    column: str = Field(default="", description="column with the code of the row's values")
    good: tuple[str, ...] = Field(
        default=("Good", "192"), min_length=1, description="codes of values that count"
    )
    texts: tuple[str, ...] = Field(
        default=MISSING_TEXTS, description="texts in cells of numbers that mean no value"
    )

    @field_validator("good", mode="before")
    @classmethod
    def _as_texts(cls, codes: object) -> object:
        if isinstance(codes, list | tuple):
            return tuple(str(c) if isinstance(c, int) else c for c in codes)
        return codes


class RunCondition(Frozen):
    """When the machine runs; rows outside are neither learned nor judged."""

    when: str = Field(min_length=1, description='such as: speed > 100 and mode == "AUTO"')
    start_up_s: float = Field(default=0.0, ge=0, description="seconds after a start that are off")
    shut_down_s: float = Field(
        default=0.0, ge=0, description="seconds before a stop that are not learned from"
    )

    @field_validator("when")
    @classmethod
    def _understood(cls, when: str) -> str:
        parse(when)
        return when


def _as_condition(value: object) -> object:
    return {"when": value} if isinstance(value, str) else value


class Contract(Frozen):
    """What a row must have to be accepted."""

    time: Annotated[TimeColumn, BeforeValidator(as_column)]
    asset: Annotated[AssetName, BeforeValidator(as_column)] | None = Field(
        default=None, description="a column, or {name: …} or {from_file: …}; none: the file's stem"
    )
    long: LongLayout | None = Field(
        default=None, description="a row holds one value; none means that it holds all of them"
    )
    sampling: Sampling = Sampling()
    quality: Quality = Quality()
    sensors: tuple[SensorEntry, ...] = Field(min_length=1)
    context: tuple[SensorEntry, ...] = Field(
        default=(), description="operating conditions: they explain, and are not themselves judged"
    )
    label: str | None = Field(
        default=None, description="0 normal, positive an anomaly (its class), empty unknown"
    )
    mode: str | None = Field(default=None, description="column with the operating mode's name")
    run_condition: Annotated[RunCondition, BeforeValidator(_as_condition)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        names = [name for name in (self.asset_column, self.label, self.mode) if name is not None]
        names += [self.time.column, *self.sensor_names, *self.context_names]
        for name in names:
            if name and names.count(name) > 1:
                raise ValueError(f"column '{name}' is named twice in the contract")
        self._refuse_condition()
        if self.long is not None and not self.time.column:
            raise ValueError("contract.long needs the column with the time of each value")
        for sensor in (*self.sensors, *self.context):
            self._check_layout(sensor)
        if self.is_shaped and self.carried:
            raise ValueError(
                f"run_condition asks for column '{min(self.carried)}': where readings are formed "
                "from samples, it can ask for sensors, context and the mode; name it in context"
            )
        return self

    def _check_layout(self, sensor: Sensor) -> None:
        """A column's own rule must fit that of the plant."""
        name, sampling = f"sensor '{sensor.name}'", self.sampling
        if self.is_shaped and sensor.kind == "categorical":
            raise ValueError(
                f"{name}: kind 'categorical' is not known where readings are formed from samples; "
                "name the column in contract.mode, or leave it out"
            )
        if self.long is not None and sensor.quality:
            raise ValueError(
                f"{name}: in a long table the code stands in the row; name its column in "
                "contract.quality.column, and remove this one"
            )
        if sensor.resample is not None and (sensor.resample == "none") != (
            sampling.resample == "none"
        ):
            raise ValueError(
                f"{name}: resample is '{sensor.resample}', but sampling.resample is "
                f"'{sampling.resample}'; either all columns are resampled, or none"
            )
        limit, gap = sensor.fill_limit_s, sampling.max_gap_s
        if limit is not None and gap is not None and limit > gap:
            raise ValueError(
                f"{name}: fill_limit_s={limit:g} is above max_gap_s={gap:g}: values would be "
                "invented across a gap"
            )

    @property
    def asset_column(self) -> str | None:
        """The column that names the asset of each row; None where there is none."""
        return None if self.asset is None else self.asset.column or None

    @property
    def asset_name(self) -> str:
        """The one asset of all rows; empty where rows may be of several."""
        return "" if self.asset is None else self.asset.name

    @property
    def is_shaped(self) -> bool:
        """Whether readings are formed from samples, rather than being the rows of the files."""
        return self.long is not None or self.sampling.resample != "none"

    def _refuse_condition(self) -> None:
        """Hold what a run condition asks of each column against what the column holds."""
        if self.run_condition is None:
            return
        holds: dict[str, Kind] = {self.mode: "text"} if self.mode is not None else {}
        for sensor in (*self.sensors, *self.context):
            holds[sensor.name] = "text" if sensor.kind == "categorical" else "number"
        asked = columns_of(parse(self.run_condition.when))
        for name, kind in asked.items():
            if name in (self.time.column, self.asset_column, self.label):
                raise ValueError(
                    f"run_condition: column '{name}' is the time, the asset or the label; ask for "
                    "sensors, context, the mode or other columns of the file"
                )
            if name in holds:
                if holds[name] != kind and not self._is_asked_only_if_missing(name):
                    raise ValueError(
                        f"run_condition: column '{name}' holds {holds[name]}s and is held against "
                        f"a {kind}; texts stand in quotes, numbers do not"
                    )
            elif name in RESERVED or name.startswith("_"):
                raise ValueError(
                    f"run_condition: the name '{name}' is the lake's own; rename the column, or "
                    "name the column of the operating mode in contract.mode"
                )

    def _is_asked_only_if_missing(self, name: str) -> bool:
        assert self.run_condition is not None
        return name not in held_against(parse(self.run_condition.when))

    @property
    def start_up_s(self) -> float:
        """Seconds after a start that are off."""
        return 0.0 if self.run_condition is None else self.run_condition.start_up_s

    @property
    def shut_down_s(self) -> float:
        """Seconds before a stop that are not learned from."""
        return 0.0 if self.run_condition is None else self.run_condition.shut_down_s

    @property
    def asked(self) -> dict[str, Kind]:
        """Columns of the file that the run condition asks for, and what they hold."""
        return {} if self.run_condition is None else columns_of(parse(self.run_condition.when))

    @property
    def carried(self) -> dict[str, Kind]:
        """Those of them that nothing else names: readings carry them along."""
        known = {*self.sensor_names, *self.context_names, self.mode}
        return {name: kind for name, kind in self.asked.items() if name not in known}

    def columns(self) -> Iterator[str]:
        """Every column of a source file that the contract names, each once."""
        columns = [self.time.column, self.asset_column, self.quality.column]
        if self.long is not None:
            columns += [self.long.tag, self.long.value]
        else:
            columns += [self.label, self.mode]
            for sensor in (*self.sensors, *self.context):
                columns += [sensor.name, sensor.quality]
            columns += self.carried
        yield from dict.fromkeys(name for name in columns if name)

    @property
    def sensor_names(self) -> tuple[str, ...]:
        return tuple(sensor.name for sensor in self.sensors)

    @property
    def context_names(self) -> tuple[str, ...]:
        return tuple(sensor.name for sensor in self.context)

    @property
    def context_width(self) -> int:
        """Columns of a matrix that the context takes up: one a level of a categorical one."""
        return sum(len(entry.levels) or 1 for entry in self.context)

    @property
    def levels(self) -> tuple[int, ...]:
        """How many levels each sensor has whose values are codes; 0 where they are numbers."""
        return tuple(2 if s.kind == "binary" else len(s.levels) for s in self.sensors)

    @property
    def categories(self) -> tuple[Sensor, ...]:
        """Context whose values are texts."""
        return tuple(entry for entry in self.context if entry.kind == "categorical")
