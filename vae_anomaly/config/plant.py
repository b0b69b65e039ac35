"""plant.yml as a whole: what is watched, and how it is learned, judged and scheduled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vae_anomaly.config.alarms import Alarms, Budget
from vae_anomaly.config.contract import Contract
from vae_anomaly.config.model import MIXED, ModelConfig
from vae_anomaly.config.monitoring import Monitoring
from vae_anomaly.config.notifications import Notifications
from vae_anomaly.config.parts import Exclusion, Parts
from vae_anomaly.config.place import is_bucket
from vae_anomaly.config.schedule import Schedule
from vae_anomaly.config.section import Frozen
from vae_anomaly.config.source import Source

__all__ = [
    "Calibration",
    "PlantConfig",
    "Training",
    "default_variant",
    "is_series",
    "window_rows",
]

#: An automatic window has about so many readings, and so many rows at least.
AUTO_READINGS, AUTO_ROWS = 60, 3


class Training(Frozen):
    """The training loop: AdamW, one cycle of the learning rate, early stopping."""

    epochs: int = Field(default=30, ge=1, description="passes over the rows, within the limits")
    min_steps: int = Field(default=700, ge=1, description="fewer rows: more passes, up to these")
    max_steps: int = Field(default=20_000, ge=1, description="more rows: fewer passes")
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=5e-3, gt=0, description="the highest of the cycle")
    weight_decay: float = Field(default=1e-5, ge=0)
    clip_norm: float = Field(default=5.0, gt=0, description="largest norm of a step's gradient")
    augment: float = Field(
        default=0.0, ge=0, le=10,
        description="rows made near the training rows, as a share of them, to train again with",
    )  # fmt: skip
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

    rule: str = Field(
        default="auto",
        description="auto; with labels youden, nearest_corner, f_beta, false_alarm_rate, "
        "precision, detection_rate, cost; with few corrected; without conformal, "
        "peaks_over_threshold; fixed",
    )
    false_alarm_rate: float = Field(default=0.01, gt=0, lt=1, description="share of normal rows")
    beta: float | None = Field(default=None, gt=0, description="of rule f_beta; 1 if left out")
    precision: float | None = Field(
        default=None, gt=0, lt=1, description="share of alarms that are right, at the least; 0.9"
    )
    detection_rate: float | None = Field(
        default=None, gt=0, lt=1, description="share of anomalous rows, at the least; 0.9"
    )
    false_alarm_cost: float | None = Field(default=None, gt=0, description="of rule cost; 1")
    missed_cost: float | None = Field(
        default=None, gt=0, description="of rule cost: of an anomalous row without an alarm"
    )
    prevalence: float | None = Field(
        default=None, gt=0, lt=1, description="share of anomalous rows; that of the rows"
    )
    value: float | None = Field(default=None, description="the threshold, of rule fixed")
    per: Literal["plant", "mode", "asset"] = Field(
        default="plant", description="whose threshold: one for all, or one a mode or an asset"
    )
    confidence: float = Field(default=0.95, gt=0, lt=1)
    bootstrap: int = Field(default=1000, ge=100, description="resamples for the intervals")
    budget: Budget | None = Field(
        default=None, description="alarms of an asset that is well, in place of a rule"
    )

    @model_validator(mode="after")
    def _rule_or_budget(self) -> Calibration:
        both = self.model_fields_set & {"rule", "false_alarm_rate"}
        if self.budget is not None and both:
            raise ValueError(
                f"calibration.budget chooses the threshold, and so does {min(both)}; leave one out"
            )
        return self


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

    name: str
    lake: str = Field(
        default="", description="folder of the Delta tables, or s3://bucket/…; default lake/<name>"
    )
    work: str = Field(
        default="", description="folder for what is in no table; default the lake, if a folder"
    )
    source: Source
    contract: Contract
    parts: Parts = Parts()
    exclusions: tuple[Exclusion, ...] = ()
    window: int | Literal["auto"] = Field(
        default=1,
        description="rows judged together; auto: some 60 readings, and 3 rows at least",
    )
    smoothing: float | Literal["auto"] | None = Field(
        default=None, description="EWMA rate of the score; auto: the largest of several EWMAs"
    )
    model: ModelConfig = ModelConfig()
    training: Training = Training()
    calibration: Calibration = Calibration()
    alarms: Alarms = Alarms()
    monitoring: Monitoring = Monitoring()
    schedule: Schedule = Schedule()
    notifications: Notifications = Notifications()
    seed: int = Field(default=0, ge=0, lt=2**31)
    mlflow: str | None = Field(default=None, description="path of mlflow.yml; none looks for it")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        """It names folders, an experiment, a model and deployments."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError(
                f"'{name}' must begin with a letter or a digit and have only letters, digits and "
                "_ . - in it, such as pumps-2"
            )
        return name

    @field_validator("window", mode="before")
    @classmethod
    def _rows_or_auto(cls, window: object) -> object:
        """One line for what is wrong, in place of one for each type."""
        is_number = isinstance(window, int) and window >= 1
        if window != "auto" and (not is_number or isinstance(window, bool)):
            raise ValueError(f"{window!r} must be a whole number of rows, at least 1, or 'auto'")
        return window

    @field_validator("smoothing", mode="before")
    @classmethod
    def _rate_or_auto(cls, smoothing: object) -> object:
        is_rate = isinstance(smoothing, int | float) and 0 < smoothing <= 1
        if smoothing not in (None, "auto") and (not is_rate or isinstance(smoothing, bool)):
            raise ValueError(f"{smoothing!r} must be a rate above 0 and at most 1, or 'auto'")
        return smoothing

    @model_validator(mode="after")
    def _likely(self) -> PlantConfig:
        """A text has a probability under one member only; a baseline makes no rows."""
        if self.model.baseline and self.training.augment:
            raise ValueError(
                f"training.augment: the baseline '{self.model.baseline}' makes no rows to train "
                "on; leave it out"
            )
        self._check_calibration()
        asset = self.contract.asset
        if asset is not None and asset.from_file and self.source.database is not None:
            raise ValueError(
                "contract.asset.from_file needs files, and the source is a table of a database; "
                "give its column, or {name: …}"
            )
        for sensor in self.contract.sensors:
            if sensor.kind == "categorical" and self.method != MIXED:
                raise ValueError(
                    f"sensor '{sensor.name}': kind 'categorical' has no likelihood in the "
                    f"{self.method_kind}; set model: {{variant: {MIXED}}}, or name the "
                    "column in contract.context or contract.mode, or leave it out"
                )
        return self

    def _check_calibration(self) -> None:
        """A threshold a mode needs a mode; one an asset, a model that they share."""
        per = self.calibration.per
        if per == "mode" and self.contract.mode is None:
            raise ValueError(
                "calibration.per: mode needs the column of the operating mode; name it in "
                "contract.mode"
            )
        if per == "asset" and self.model.per == "asset":
            raise ValueError(
                "calibration.per: asset is for a model that the assets share; with model.per: "
                "asset each has its own threshold already: leave it out"
            )
        if per != "plant" and self.calibration.rule == "fixed":
            raise ValueError(
                f"calibration.per: {per} and rule: fixed are two answers; one value is for all "
                "rows: leave per out"
            )

    @property
    def work_path(self) -> Path:
        """Folder of this machine for what is in no table: trainings, packages, MLflow's file."""
        if self.work or not is_bucket(self.lake):
            return Path(self.work or self.lake)
        return Path(".vae-anomaly", self.name)

    def keeps(self, path: str) -> bool:
        """Whether a file is one of our own, and so none of the source.

        Examples
        --------
        >>> here = Source(path="/data"), Contract(time="time", sensors=("flow",))
        >>> plant = PlantConfig(name="p", lake="/data/lake/p", source=here[0], contract=here[1])
        >>> plant.keeps("/data/lake/p/readings/1.parquet"), plant.keeps("/data/1.parquet")
        (True, False)
        """
        if is_bucket(path):
            return path.startswith(f"{self.lake}/")
        return bool({Path(self.lake), self.work_path} & {*Path(path).parents})

    @property
    def method(self) -> str:
        """What trains: the baseline, or the variant with "auto" resolved."""
        if self.model.baseline or self.model.variant != "auto":
            return self.model.baseline or self.model.variant
        return default_variant(
            is_series=is_series(self.window, self.smoothing),
            has_levels=any(sensor.kind == "categorical" for sensor in self.contract.sensors),
        )

    @property
    def method_kind(self) -> str:
        """The same in words."""
        return f"baseline {self.method}" if self.model.baseline else f"{self.method} VAE"

    @property
    def window_rows(self) -> int:
        """Rows that are judged together, with "auto" resolved."""
        return window_rows(self.window, len(self.contract.sensors))


def window_rows(window: int | Literal["auto"], n_sensors: int) -> int:
    """Rows of a window; "auto" says that rows are a series, and leaves their number to us.

    Many sensors are judged by one another, and their windows are short; a single one can only be
    judged by its own course, and has a long one.

    Examples
    --------
    >>> window_rows(10, 1)
    10
    >>> [window_rows("auto", n_sensors) for n_sensors in (1, 8, 52)]
    [60, 8, 3]
    """
    if window != "auto":
        return int(window)
    return max(AUTO_ROWS, round(AUTO_READINGS / n_sensors))


def is_series(window: int | Literal["auto"], smoothing: float | Literal["auto"] | None) -> bool:
    """Whether a row is judged with those before it, so that the rows have an order."""
    return window != 1 or smoothing is not None


def default_variant(*, is_series: bool, has_levels: bool = False) -> str:
    """The member that "auto" stands for.

    Parameters
    ----------
    is_series : bool
        Whether rows are judged together with those before them.
    has_levels : bool
        Whether a column holds codes of levels, which only one member knows.

    Examples
    --------
    >>> default_variant(is_series=False), default_variant(is_series=True)
    ('gaussian', 'ensemble')
    """
    if has_levels:
        return MIXED
    return "ensemble" if is_series else "gaussian"
