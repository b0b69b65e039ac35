"""plant.yml and mlflow.yml: what is watched, how, and where the models go.

Everything that can be set stands here once, with its default. Unknown keys are refused with the
closest known one; relative paths are relative to the file that names them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from vae_anomaly.errors import ConfigError, closest

__all__ = [
    "PARTS",
    "Calibration",
    "Contract",
    "Gate",
    "MlflowConfig",
    "ModelConfig",
    "Part",
    "PartRange",
    "Parts",
    "PlantConfig",
    "Sampling",
    "Schedule",
    "Sensor",
    "Source",
    "TimeColumn",
    "Training",
    "read_mlflow",
    "read_plant",
    "settings_digest",
]

Part = Literal["train", "stop", "calibrate", "test"]
PARTS: tuple[Part, ...] = ("train", "stop", "calibrate", "test")

Section = TypeVar("Section", bound=BaseModel)

#: Columns of the lake's own; a sensor of this name would be overwritten.
RESERVED = ("asset", "time", "label", "mode", "content_id", "row", "ingest")


class Frozen(BaseModel):
    """Base of every section: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ------------------------------------------------------------------------------- where rows are


class Source(Frozen):
    """Where the rows come from: a file, a folder or a glob of CSV or Parquet files."""

    path: str = Field(description="file, folder or glob, relative to the plant file")
    format: Literal["auto", "csv", "parquet"] = "auto"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8"


# --------------------------------------------------------------------------------- what rows are


def _named(value: object) -> object:
    """Allow a bare string where an object with a name would do."""
    return {"name": value} if isinstance(value, str) else value


def _column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class Sensor(Frozen):
    """One measured column, its unit and its physical range."""

    name: str = Field(min_length=1)
    unit: str = ""
    kind: Literal["continuous", "binary", "categorical"] = "continuous"
    levels: tuple[str, ...] = ()
    low: float | None = Field(default=None, description="physically lowest value")
    high: float | None = Field(default=None, description="physically highest value")
    missing: Literal["allowed", "refused"] = "allowed"

    @model_validator(mode="after")
    def _consistent(self) -> Sensor:
        if self.kind == "categorical":
            raise ValueError(
                f"sensor '{self.name}': kind 'categorical' has no likelihood in the gaussian "
                "variant; leave the column out, or name it as contract.mode"
            )
        if self.levels:
            raise ValueError(f"sensor '{self.name}': levels belong to kind 'categorical'")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"sensor '{self.name}': low={self.low} is not below high={self.high}")
        if self.name in RESERVED or self.name.startswith("_"):
            raise ValueError(
                f"sensor '{self.name}': this name is the lake's own ({', '.join(RESERVED)}, or a "
                "leading underscore); rename the column"
            )
        return self


SensorEntry = Annotated[Sensor, BeforeValidator(_named)]


class TimeColumn(Frozen):
    """The column with the time of a row, and how to read it."""

    column: str
    zone: str = "UTC"
    format: str | None = Field(default=None, description="strptime format; none reads ISO 8601")

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


class Sampling(Frozen):
    """How rows follow one another in time."""

    period_s: float | None = Field(default=None, gt=0, description="seconds between rows")
    max_gap_s: float | None = Field(default=None, gt=0, description="a longer gap cuts a window")


class Contract(Frozen):
    """What a row must have to be accepted."""

    time: Annotated[TimeColumn, BeforeValidator(_column)]
    asset: str | None = Field(default=None, description="column; none means the file's stem")
    layout: Literal["wide"] = "wide"
    sampling: Sampling = Sampling()
    sensors: tuple[SensorEntry, ...] = Field(min_length=1)
    context: tuple[SensorEntry, ...] = Field(
        default=(), description="operating conditions: they explain, and are not themselves judged"
    )
    label: str | None = Field(
        default=None, description="0 normal, positive an anomaly (its class), empty unknown"
    )
    mode: str | None = Field(default=None, description="column with the operating mode's name")

    @model_validator(mode="after")
    def _no_column_twice(self) -> Contract:
        seen: set[str] = set()
        for column in self.columns():
            if column in seen:
                raise ValueError(f"column '{column}' is named twice in the contract")
            seen.add(column)
        return self

    def columns(self) -> Iterator[str]:
        """Every column of a source file that the contract names."""
        yield self.time.column
        yield from (name for name in (self.asset, self.label, self.mode) if name is not None)
        yield from (sensor.name for sensor in (*self.sensors, *self.context))

    @property
    def sensor_names(self) -> tuple[str, ...]:
        return tuple(sensor.name for sensor in self.sensors)

    @property
    def context_names(self) -> tuple[str, ...]:
        return tuple(sensor.name for sensor in self.context)


# ------------------------------------------------------------------------- which rows do which job


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
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no zone; write 2026-03-09T10:00:00Z or +01:00")
        return value


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


# ----------------------------------------------------------------- model, training and threshold


class ModelConfig(Frozen):
    """Which member of the family, for the whole plant or one an asset."""

    variant: str = "gaussian"
    per: Literal["plant", "asset"] = "plant"
    score: str = "auto"
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="the variant's own settings, such as latent_dim"
    )


class Training(Frozen):
    """The training loop: AdamW, one cycle of the learning rate, early stopping."""

    epochs: int = Field(default=30, ge=1, description="passes over the rows, within the limits")
    min_steps: int = Field(default=700, ge=1, description="fewer rows: more passes, up to these")
    max_steps: int = Field(default=20_000, ge=1, description="more rows: fewer passes")
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=5e-3, gt=0, description="the highest of the cycle")
    weight_decay: float = Field(default=1e-5, ge=0)
    clip_norm: float = Field(default=5.0, gt=0, description="largest norm of a step's gradient")
    checks: int = Field(default=40, ge=1, description="looks at the held-out bound in a full run")
    patience: int = Field(
        default=12, ge=1, description="checks without a better bound to stop after"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Training:
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps={self.min_steps} is above max_steps={self.max_steps}")
        return self


class Calibration(Frozen):
    """How the threshold is chosen on the part `calibrate`."""

    rule: str = Field(default="auto", description="auto, youden, false_alarm_rate or conformal")
    false_alarm_rate: float = Field(default=0.01, gt=0, lt=1, description="share of normal rows")
    confidence: float = Field(default=0.95, gt=0, lt=1)
    bootstrap: int = Field(default=1000, ge=100, description="resamples for the intervals")


class Schedule(Frozen):
    """Cron lines for `vae-anomaly serve`."""

    ingest: str = "*/15 * * * *"
    score: str = "5 * * * *"
    zone: str = "UTC"

    @field_validator("ingest", "score")
    @classmethod
    def _five_fields(cls, line: str) -> str:
        if len(line.split()) != 5:
            raise ValueError(f"'{line}' is not a cron line of five fields, such as '5 * * * *'")
        return line


class PlantConfig(Frozen):
    """One plant.yml: all that is known of a plant before its rows are read.

    Examples
    --------
    >>> plant = PlantConfig(
    ...     name="pumps",
    ...     source=Source(path="incoming/*.csv"),
    ...     contract=Contract(time="time", sensors=("pressure", "flow")),
    ... )
    >>> plant.contract.sensor_names
    ('pressure', 'flow')
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    lake: str = Field(default="", description="folder of the Delta tables; default lake/<name>")
    source: Source
    contract: Contract
    parts: Parts = Parts()
    window: int = Field(default=1, ge=1, description="rows that are judged together")
    smoothing: float | None = Field(default=None, gt=0, le=1, description="EWMA rate of the score")
    model: ModelConfig = ModelConfig()
    training: Training = Training()
    calibration: Calibration = Calibration()
    schedule: Schedule = Schedule()
    seed: int = Field(default=0, ge=0, lt=2**31)
    mlflow: str | None = Field(default=None, description="path of mlflow.yml; none looks for it")

    @property
    def lake_path(self) -> Path:
        return Path(self.lake)


# ----------------------------------------------------------------------------------- mlflow.yml


class Gate(Frozen):
    """What a challenger must reach on the same test part to become champion by itself."""

    promote: Literal["gate", "never"] = "gate"
    max_auroc_loss: float = Field(default=0.01, ge=0)
    max_detection_loss: float = Field(default=0.02, ge=0)
    max_false_alarm_rate: float = Field(default=0.05, gt=0, le=1, description="whatever the budget")
    max_false_alarm_ratio: float = Field(default=1.5, gt=0, description="against the champion's")


class MlflowConfig(Frozen):
    """mlflow.yml: where runs and models go. ``{plant}`` and ``{lake}`` are filled in."""

    tracking_uri: str = "sqlite:///{lake}/mlflow/mlflow.db"
    registry_uri: str | None = None
    artifact_root: str = "{lake}/mlflow/artifacts"
    experiment: str = "{plant}"
    model_name: str = "{plant}"
    champion: str = Field(default="champion", description="alias of the version that scores")
    challenger: str = Field(default="challenger", description="alias of the latest contender")
    gate: Gate = Gate()

    @field_validator("tracking_uri", "artifact_root", "experiment", "model_name")
    @classmethod
    def _known_fields(cls, template: str) -> str:
        for name in re.findall(r"\{(\w*)\}", template):
            if name not in ("plant", "lake"):
                raise ValueError(f"'{{{name}}}' in '{template}': only {{plant}} and {{lake}} exist")
        return template

    def filled(self, plant: PlantConfig) -> MlflowConfig:
        """This configuration for one plant; the standard MLflow variables win."""

        def fill(template: str) -> str:
            return template.format(plant=plant.name, lake=plant.lake_path.as_posix())

        tracking = os.environ.get("MLFLOW_TRACKING_URI") or fill(self.tracking_uri)
        registry = os.environ.get("MLFLOW_REGISTRY_URI") or self.registry_uri
        return self.model_copy(
            update={
                "tracking_uri": tracking,
                "registry_uri": fill(registry) if registry else tracking,
                "artifact_root": fill(self.artifact_root),
                "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or fill(self.experiment),
                "model_name": fill(self.model_name),
            }
        )


# -------------------------------------------------------------------------------------- reading


def read_plant(path: str | Path, *, source: str | None = None) -> PlantConfig:
    """Read a plant.yml; every path in the result is absolute.

    Parameters
    ----------
    path : str or Path
        The plant file.
    source : str, optional
        File, folder or glob that replaces ``source.path``, relative to the working directory.

    Returns
    -------
    PlantConfig

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or says something that is not allowed; the message names
        every key that is wrong, and the closest known one.
    """
    file = Path(path).absolute()
    plant = _validated(PlantConfig, file)
    lake = file.parent / (plant.lake or f"lake/{plant.name}")
    rows = Path.cwd() / source if source is not None else file.parent / plant.source.path
    if unusable := set(str(lake)) & set("[]%"):
        raise ConfigError(
            f"{file}: the lake {lake} has {min(unusable)!r} in its path, which the tables cannot "
            "have; set lake to a folder without it"
        )
    update: dict[str, object] = {
        "lake": os.path.normpath(lake),
        "source": plant.source.model_copy(update={"path": os.path.normpath(rows)}),
    }
    if plant.mlflow is not None:
        update["mlflow"] = os.path.normpath(file.parent / plant.mlflow)
    else:
        beside = (folder / "mlflow.yml" for folder in (file.parent, *file.parent.parents))
        update["mlflow"] = next((str(found) for found in beside if found.is_file()), None)
    return plant.model_copy(update=update)


def read_mlflow(plant: PlantConfig) -> MlflowConfig:
    """Read the mlflow.yml that belongs to a plant, filled in for it.

    It is the one that plant.yml names, or the first that lies beside the plant file or in a folder
    above it; without any, the defaults hold.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or says something that is not allowed.
    """
    if plant.mlflow is None:
        return MlflowConfig().filled(plant)
    return _validated(MlflowConfig, Path(plant.mlflow)).filled(plant)


def settings_digest(*sections: BaseModel | JsonValue) -> str:
    """SHA-256 of settings in canonical JSON: equal settings, equal digest.

    Examples
    --------
    >>> settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    True
    """
    plain = [s.model_dump(mode="json") if isinstance(s, BaseModel) else s for s in sections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _validated(kind: type[Section], file: Path) -> Section:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{file} does not exist; give the path of a plant file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{file} is a folder; give the path of a plant file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold keys and values, such as 'name: pumps'")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explained(error, kind, file)) from error


def _explained(error: ValidationError, kind: type[BaseModel], file: Path) -> str:
    """One line for each thing that is wrong, in the words of the file."""
    lines = [f"{file} is not valid:"]
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _keys_at(kind, problem["loc"][:-1])
            lines.append(f"  {where}: unknown key; {closest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "missing":
            lines.append(f"  {where}: is missing; add it")
        else:
            said = problem["msg"].removeprefix("Value error, ")
            lines.append(f"  {where}: {said}" if where else f"  {said}")
    return "\n".join(lines)


def _keys_at(kind: type[BaseModel], steps: tuple[int | str, ...]) -> list[str]:
    """The known keys of the section that `steps` lead to."""
    for step in steps:
        if isinstance(step, int):
            continue
        kind = next(_models_in(kind.model_fields[step].annotation), kind)
    return list(kind.model_fields)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
