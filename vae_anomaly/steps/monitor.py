"""Has the plant drifted from what its champion has learnt? Window by window, each exactly once.

The normal history is what the champion was trained, stopped and calibrated on, at the version of
the readings that it saw: the table `parts` names it. Its rows are scored by the champion like those
of the window, so that both are judged by one model, whichever wrote the verdicts. The calibration
rows alone would be too few days to show how far one day lies from another.

Windows lie behind the history and follow one another without a gap. One is judged when each asset
has verdicts up to its end, or another one has them for the window after it: one that sends nothing
any more does not stop the rest. A window that the table `drift` has for this package is not judged
again; late rows do not change it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig, settings_digest
from vae_anomaly.data.lake import (
    ALARMS,
    DRIFT,
    PARTS,
    READINGS,
    VERDICTS,
    Lake,
    commit,
    rows,
    transaction_number,
    until_committed,
)
from vae_anomaly.data.told import Told
from vae_anomaly.decisions.alarms import ACTIVE
from vae_anomaly.decisions.diagnosis import Evidence, diagnose_asset, diagnose_plant
from vae_anomaly.decisions.drift import Check, check_asset, with_control
from vae_anomaly.decisions.drift_figures import WindowRows
from vae_anomaly.errors import LakeError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.drift_rows import (
    Judgement,
    Window,
    drift_rows,
    log_drift,
    stored_windows,
)
from vae_anomaly.steps.drift_windows import (
    AssetRows,
    Grid,
    mean_contributions,
    read_asset,
    refused_times,
)
from vae_anomaly.steps.feedback import read_feedback
from vae_anomaly.steps.lines import judged_by_all
from vae_anomaly.tracking import champion_package

__all__ = ["MonitorReport", "monitor", "note_told"]

logger = logging.getLogger(__name__)

#: The history is its last so many windows: what lies further back is not what is normal today.
MOST_WINDOWS = 28

#: What stands before the name of a line, in the transaction of what was told of its windows.
TOLD = "told:"

#: Windows that one call judges at most, the latest.
MOST_AT_ONCE = 31


@dataclass(frozen=True)
class MonitorReport:
    """What is known of the champion's windows after one call of `monitor`.

    Attributes
    ----------
    model_version : str
        The champion.
    columns : tuple of str
        Sensors, then context, by the number that checks have.
    windows : tuple of Window
        The last ones that it judged, the first one first.
    n_new : int
        How many of them this call has judged.
    n_history : int
        Windows of the normal history that they were held against; of the asset that has fewest.
    n_left_out : int
        Windows before the new ones that are too many for one call, and are not judged.
    line : str
        Transaction of the champion's windows.
    untold : tuple of Window
        Those of `windows` of which nobody was told yet; see `note_told`.
    """

    model_version: str
    columns: tuple[str, ...]
    windows: tuple[Window, ...]
    n_new: int
    n_history: int
    n_left_out: int = 0
    line: str = ""
    untold: tuple[Window, ...] = ()

    @property
    def latest(self) -> Window | None:
        """The last window; None where there is none yet."""
        return self.windows[-1] if self.windows else None

    @property
    def new(self) -> tuple[Window, ...]:
        """Those that this call has judged."""
        return self.windows[len(self.windows) - self.n_new :]


@dataclass(frozen=True)
class _Sample:
    """The normal history of each asset, and the digest of what it is made of."""

    windows: Mapping[str, Sequence[WindowRows]]
    digest: str


def monitor(plant: PlantConfig) -> MonitorReport:
    """Hold the windows since the champion's history against it, those that were not yet.

    Parameters
    ----------
    plant : PlantConfig

    Returns
    -------
    MonitorReport

    Raises
    ------
    RegistryError
        There is no champion yet.
    LakeError
        Nothing has been scored yet, or the lake does not know what the champion was trained on.
    """
    lake = Lake(plant.lake, plant.contract)
    champion = champion_package(plant)
    package = ModelPackage.read(champion.folder)
    grid = Grid(round(plant.monitoring.length.total_seconds() * 1e6))
    readings, spans = lake.open(READINGS), _learnt(lake, package)
    line = f"drift:{package.digest[:16]}:{grid.length_us}"
    done = transaction_number(lake.writable(DRIFT), line)
    limit = plant.source.latest(datetime.now(UTC))
    until = judged_by_all(lake.open(VERDICTS), spans, wait_us=grid.length_us, limit=limit)
    due = grid.numbers_within(max(end for _, end in spans.values()) + 1, until)
    new = [number for number in due if done is None or number > done]
    told = read_feedback(lake, numbered=plant.contract.label is not None).with_open
    sample = _sample(lake, package, grid, spans, told)
    by = Judgement(
        champion.version, package.digest, sample.digest, readings.version(), _columns(package)
    )
    for number in new[-MOST_AT_ONCE:]:
        window = _judge(plant, lake, readings, package, by, grid, number, sample)
        until_committed(partial(_store, lake, line, number, drift_rows(window, by)))
        logger.info("window %d: %s, %s", number, window.plant.kind, window.plant.reason)
    known = due[-MOST_AT_ONCE:]
    stored = stored_windows(lake, by, since=grid.start(known[0])) if known else ()
    windows = tuple(w for w in stored if w.end - w.start == grid.length_us)
    log_drift(plant, by, windows)
    fewest = min((len(own) for own in sample.windows.values()), default=0)
    n_new = min(len(new), MOST_AT_ONCE)
    left = len(new) - n_new
    said = transaction_number(lake.writable(DRIFT), TOLD + line)
    untold = tuple(w for w in windows if said is None or w.number > said)
    return MonitorReport(champion.version, by.columns, windows, n_new, fewest, left, line, untold)


def note_told(plant: PlantConfig, report: MonitorReport) -> None:
    """Write down that people, or what listens for them, were told of all windows so far."""
    lake, last = Lake(plant.lake, plant.contract), report.latest
    if last is None:
        return

    def attempt() -> bool:
        drift = lake.writable(DRIFT)
        said = transaction_number(drift, TOLD + report.line)
        if said is not None and said >= last.number:
            return True
        return commit(drift, lake.schema(DRIFT).empty_table(), {TOLD + report.line: last.number})

    until_committed(attempt)


def _columns(package: ModelPackage) -> tuple[str, ...]:
    """Names of the columns of a matrix."""
    names = list(package.contract.sensor_names)
    for entry in package.contract.context:
        names += [f"{entry.name}={level}" for level in entry.levels] or [entry.name]
    return tuple(names)


def _learnt(lake: Lake, package: ModelPackage) -> dict[str, tuple[int, int]]:
    """First and last moment of what the champion has learnt of each asset, thresholds too."""
    found: dict[str, tuple[int, int]] = {}
    where = pc.field("fingerprint") == package.provenance.fingerprint
    for batch in rows(lake.open(PARTS), where=where):
        table = pa.Table.from_batches([batch])
        for name in ("start", "end"):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].cast(pa.int64()))
        for row in table.to_pylist():
            if row["part"] != "test":
                start, end = found.get(row["asset"], (row["start"], row["end"]))
                found[row["asset"]] = min(start, row["start"]), max(end, row["end"])
    if not found:
        raise LakeError(
            f"the table 'parts' in {lake.root} does not name the rows that the champion was "
            "trained on; train it on this lake"
        )
    return found


def _sample(
    lake: Lake,
    package: ModelPackage,
    grid: Grid,
    spans: Mapping[str, tuple[int, int]],
    told: Mapping[str, Sequence[Told]],
) -> _Sample:
    """The windows of what the champion has learnt, asset by asset."""
    version = package.provenance.readings_version
    readings = lake.open(READINGS, version=version)
    windows: dict[str, Sequence[WindowRows]] = {}
    for asset, (start, end) in sorted(spans.items()):
        numbers = grid.numbers_within(start, end + 1)[-MOST_WINDOWS:]
        if not numbers:
            windows[asset] = ()
            continue
        first, last = grid.start(numbers[0]), grid.start(numbers[-1] + 1)
        own = read_asset(readings, package, asset, start=first, end=last)
        if own is None:
            continue
        refused = refused_times(lake, start=first, end=last).get(asset, np.zeros(0, np.int64))
        aside = own.told(told.get(asset, ()))
        found = [own.window(grid, number, aside, refused) for number in numbers]
        windows[asset] = [window for window in found if window.n_rows]
    digest = settings_digest(
        package.digest, version, grid.length_us, [[a, *e] for a, e in sorted(spans.items())]
    )
    return _Sample(windows, digest)


def _judge(
    plant: PlantConfig,
    lake: Lake,
    readings: DeltaTable,
    package: ModelPackage,
    by: Judgement,
    grid: Grid,
    number: int,
    sample: _Sample,
) -> Window:
    """Every figure of every asset in one window, and what they say together."""
    start, end = grid.start(number), grid.start(number + 1)
    refused, alarms = refused_times(lake, start=start, end=end), _alarms(lake, start, end)
    columns, rate = by.columns, plant.monitoring.false_drift_rate
    forecast = None if package.budget is None else package.budget.forecast
    checks: dict[str, Sequence[Check]] = {}
    excess: dict[str, np.ndarray] = {}
    n_sensors = len(package.contract.sensors)
    level = rate / (len(sample.windows) * (len(columns) + 4 * n_sensors + 5))
    for asset, history in sample.windows.items():
        own = read_asset(readings, package, asset, start=start, end=end) or _no_rows(
            columns, n_sensors
        )
        times = refused.get(asset, np.zeros(0, np.int64))
        window = own.window(grid, number, own.off, times)
        checks[asset] = check_asset(
            window, history, level=level, n_alarms=alarms[asset].n_raised if asset in alarms else 0,
            forecast=forecast, seed=plant.seed,
        )  # fmt: skip
        normal = mean_contributions(history) if history else np.zeros(n_sensors)
        excess[asset] = mean_contributions([window]) - normal
    judged = with_control(checks, rate)
    diagnoses = diagnose_plant(
        {
            asset: diagnose_asset(
                Evidence(
                    judged[asset],
                    columns,
                    n_sensors,
                    excess[asset].tolist(),
                    alarms[asset].share if asset in alarms else 0.0,
                )
            )
            for asset in judged
        }
    )
    return Window(start, end, judged, diagnoses)


def _no_rows(columns: Sequence[str], n_sensors: int) -> AssetRows:
    """An asset that sent nothing."""
    none, no = np.zeros((0, n_sensors)), np.zeros((0, n_sensors), bool)
    empty = WindowRows(np.zeros((0, len(columns))), none, none[:, 0], no, no, no[:, 0], hours=0.0)
    return AssetRows(np.zeros(0, np.int64), empty, no[:, 0], no[:, 0])


@dataclass(frozen=True)
class _AlarmTime:
    """Alarms of an asset that were raised in a window, and how long any was active."""

    n_raised: int = 0
    share: float = 0.0


def _alarms(lake: Lake, start: int, end: int) -> dict[str, _AlarmTime]:
    """Alarms of each asset in a window, as they are known now."""
    table = lake.found(ALARMS)
    found: dict[str, _AlarmTime] = {}
    for batch in rows(table, columns=["asset", "start", "raised", "end", "state"]) if table else ():
        moments = {
            name: batch[name].cast(pa.int64()).to_pylist() for name in ("start", "raised", "end")
        }
        for i, (asset, state) in enumerate(
            zip(batch["asset"].to_pylist(), batch["state"].to_pylist(), strict=True)
        ):
            until = end if state == ACTIVE else moments["end"][i]
            inside = max(0, min(until, end) - max(moments["start"][i], start)) / (end - start)
            own = found.get(asset, _AlarmTime())
            raised = start <= moments["raised"][i] < end
            found[asset] = replace(
                own, n_raised=own.n_raised + raised, share=min(1.0, own.share + inside)
            )
    return found


def _store(lake: Lake, line: str, number: int, table: pa.Table) -> bool:
    """Write what was found in a window, unless another process has."""
    drift = lake.writable(DRIFT)
    done = transaction_number(drift, line)
    return (done is not None and done >= number) or commit(drift, table, {line: number})
