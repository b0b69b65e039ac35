"""Readings of the past → verdicts of any version, in a line of their own beside the champion's.

Nothing else changes: no alarm is raised, and the champion's verdicts stay. The line's name says the
version and the range, so the same again goes on where it was, and judges nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, as_timestamp, rows
from vae_anomaly.data.times import moment_of
from vae_anomaly.errors import InputError, closest
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.lines import Line, Stretch, judge_line, judged_through
from vae_anomaly.steps.promote import known_version
from vae_anomaly.table import Table
from vae_anomaly.tracking import champion_package, open_tracking

__all__ = ["BackfillReport", "backfill", "backfill_line", "backfill_table"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackfillReport:
    """What one call judged.

    Attributes
    ----------
    line : str
    model_version : str
    statuses : mapping of str to int
        Rows of this call by status.
    first_version, last_version : int
        Versions of `readings` looked through; first > last where all was done before.
    """

    line: str
    model_version: str
    statuses: Mapping[str, int]
    first_version: int
    last_version: int

    @property
    def n_rows(self) -> int:
        return sum(self.statuses.values())


def backfill(
    plant: PlantConfig,
    start: str,
    end: str,
    *,
    model_version: str = "",
    asset: str = "",
    on_group: Callable[[int, int], None] = lambda done, last: None,
) -> BackfillReport:
    """Judge the readings from `start` to before `end` with any version, beside the champion.

    Parameters
    ----------
    plant : PlantConfig
    start, end : str
        Times; without a zone they are in the plant's.
    model_version : str, optional
        Number or alias; the champion by default.
    asset : str, optional
        Only of this one.
    on_group : callable, optional
        Called after each commit with the version of `readings` looked through, and the last one.

    Raises
    ------
    InputError
        The times are none or in the wrong order, or no reading is of the asset or lies in between.
    RegistryError
        There is no such version.
    PackageError
        Its package is damaged.
    """
    zone = plant.contract.time.zone
    first, last = (moment_of(text, zone) for text in (start, end))
    if first >= last:
        raise InputError(f"--from {start} is not before --to {end}; nothing lies between them")
    lake = Lake(plant.lake, plant.contract)
    readings = lake.open(READINGS)
    if asset:
        _refuse_unknown(lake, asset)
    _refuse_empty(lake, first, last, asset)
    line = _line(plant, model_version, Stretch(first, last, asset))
    begins = judged_through(lake.writable(VERDICTS), line.name) + 1
    limit = plant.source.latest(datetime.now(UTC))
    statuses = judge_line(lake, line, readings.version(), limit=limit, on_group=on_group).statuses
    report = BackfillReport(
        line.name, line.model_version, dict(statuses), begins, readings.version()
    )
    logger.info("judged %d rows in line %s", report.n_rows, report.line)
    return report


def backfill_line(model_version: str, stretch: Stretch) -> str:
    """Name of the line of a version on a stretch.

    Examples
    --------
    >>> backfill_line("7", Stretch(0, 86_400_000_000, "pump-1"))
    'backfill:7:1970-01-01T00:00:00Z..1970-01-02T00:00:00Z:pump-1'
    """
    ends = "..".join(_text(end) for end in (stretch.start, stretch.end))
    return f"backfill:{model_version}:{ends}" + (f":{stretch.asset}" if stretch.asset else "")


def _text(micros: int) -> str:
    moment = np.datetime64(micros, "us").astype(datetime).replace(tzinfo=UTC)
    text: str = moment.isoformat().replace("+00:00", "Z")
    return text


def _line(plant: PlantConfig, model_version: str, stretch: Stretch) -> Line:
    if model_version:
        tracking = open_tracking(plant)
        version = known_version(tracking, model_version)
        number = version.version
        folder = tracking.fetch_package(version, plant.work_path / "packages")
    else:
        champion = champion_package(plant)
        number, folder = champion.version, champion.folder
    return Line(backfill_line(number, stretch), number, ModelPackage.read(folder), stretch)


def _refuse_unknown(lake: Lake, asset: str) -> None:
    known: set[str] = set()
    for batch in rows(lake.open(READINGS), columns=["asset"]):
        known.update(pc.unique(batch["asset"]).to_pylist())
    if asset not in known:
        raise InputError(f"no reading is of asset '{asset}'; {closest(asset, known)}")


def _refuse_empty(lake: Lake, start: int, end: int, asset: str) -> None:
    """Say when there are readings, where none lies from `start` to before `end`."""
    time = pc.field("time")
    own = pc.field("asset") == asset if asset else pc.scalar(True)
    inside = own & (time >= as_timestamp(start)) & (time < as_timestamp(end))
    if any(batch.num_rows for batch in rows(lake.open(READINGS), columns=["time"], where=inside)):
        return
    ends = [
        pc.min_max(batch["time"]).as_py()
        for batch in rows(lake.open(READINGS), columns=["time"], where=own)
    ]
    if not ends:
        raise InputError("there are no readings yet; run `vae-anomaly ingest` first")
    span = (min(e["min"] for e in ends), max(e["max"] for e in ends))
    first, last = (f"{moment:%Y-%m-%d %H:%M:%S}" for moment in span)
    whose = f"readings of '{asset}'" if asset else "readings"
    raise InputError(f"no {whose} lie there; they reach from {first} to {last} UTC")


def backfill_table(report: BackfillReport) -> Table:
    """What was judged, and under which name it lies."""
    if report.first_version > report.last_version:
        summary = f"Nothing to do: line {report.line} has judged all of it."
        return Table("Backfill", summary, (), ())
    summary = (
        f"{report.n_rows:,} rows judged with version {report.model_version}, in line {report.line}."
    )
    lines = tuple((status, f"{n:,}") for status, n in sorted(report.statuses.items()))
    notes = ("they lie in `verdicts` beside the champion's; no alarm is raised of them",)
    return Table("Backfill", summary, ("status", "rows"), lines, notes)
