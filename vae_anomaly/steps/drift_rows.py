"""What was found in a window ↔ rows of the table `drift`, and figures of a run in MLflow."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import DRIFT, Lake, as_timestamp, rows
from vae_anomaly.data.schemas import TABLES
from vae_anomaly.decisions.diagnosis import Diagnosis
from vae_anomaly.decisions.drift import Check
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.errors import RegistryUnreachableError
from vae_anomaly.tracking import open_tracking

__all__ = ["DIAGNOSIS", "Judgement", "Window", "drift_rows", "log_drift", "stored_windows"]

logger = logging.getLogger(__name__)

#: The check whose verdict is what all others say together.
DIAGNOSIS = "diagnosis"


@dataclass(frozen=True)
class Window:
    """One window, with what was found in it.

    Attributes
    ----------
    start, end : int
        Microseconds since 1970, the end not included.
    checks : mapping of str to sequence of Check
        By asset.
    diagnoses : mapping of str to Diagnosis
        By asset; that of the whole plant under "".
    """

    start: int
    end: int
    checks: Mapping[str, Sequence[Check]]
    diagnoses: Mapping[str, Diagnosis]

    @property
    def number(self) -> int:
        """Its number among windows of its length since 1970."""
        return self.start // (self.end - self.start)

    @property
    def start_text(self) -> str:
        """First moment, in UTC."""
        return f"{as_timestamp(self.start).as_py():%Y-%m-%d %H:%M}"

    @property
    def end_text(self) -> str:
        """The moment that it ends before, in UTC."""
        return f"{as_timestamp(self.end).as_py():%Y-%m-%d %H:%M}"

    @property
    def plant(self) -> Diagnosis:
        """What is said of the whole plant."""
        return self.diagnoses[""]


@dataclass(frozen=True)
class Judgement:
    """Who judged, on what: the same for all windows of one call.

    Attributes
    ----------
    model_version, package_digest : str
        The champion.
    sample_digest : str
        Of the normal history: which rows, at which version of the readings, in which windows.
    readings_version : int
        Of the window's own readings.
    columns : tuple of str
        Sensors, then context, by the number that checks have.
    """

    model_version: str
    package_digest: str
    sample_digest: str
    readings_version: int
    columns: tuple[str, ...]


def drift_rows(window: Window, by: Judgement) -> pa.Table:
    """One row a check and asset, one a diagnosis; that of the plant has no asset."""
    common: dict[str, object] = {
        "model_version": by.model_version,
        "package_digest": by.package_digest,
        "start": as_timestamp(window.start).as_py(),
        "end": as_timestamp(window.end).as_py(),
        "sample_digest": by.sample_digest,
        "readings_version": by.readings_version,
        "monitored_at": datetime.now(UTC),
    }
    entries = [
        {**common, **entry}
        for entry in (*_check_rows(window, by.columns), *_diagnosis_rows(window))
    ]
    return pa.Table.from_pylist(entries, schema=TABLES[DRIFT])


def _check_rows(window: Window, columns: Sequence[str]) -> Iterator[dict[str, object]]:
    for asset, own in window.checks.items():
        for check in own:
            numbers = {
                "figure": check.figure.value,
                "low": check.figure.low,
                "high": check.figure.high,
                "usual": check.usual,
                "limit": check.limit,
                "p_value": check.p_value,
                "adjusted_p_value": check.adjusted,
            }
            yield {
                "asset": asset,
                "check": check.name,
                "column": columns[check.column] if check.column >= 0 else None,
                **{name: None if math.isnan(x) else x for name, x in numbers.items()},
                "verdict": check.verdict,
                "n_windows": check.n_windows,
            }


def _diagnosis_rows(window: Window) -> Iterator[dict[str, object]]:
    for asset, found in window.diagnoses.items():
        yield {
            "asset": asset or None,
            "check": DIAGNOSIS,
            "verdict": found.kind,
            "columns": list(found.columns),
            "reason": found.reason,
        }


def stored_windows(lake: Lake, by: Judgement, *, since: int = 0) -> tuple[Window, ...]:
    """Windows that begin at `since` or later and were judged by this package, the first one first.

    Parameters
    ----------
    lake : Lake
    by : Judgement
        Its package and columns count.
    since : int
        Microseconds since 1970.
    """
    place = {name: number for number, name in enumerate(by.columns)}
    found: dict[tuple[int, int], Window] = {}
    where = (pc.field("package_digest") == by.package_digest) & (
        pc.field("start") >= as_timestamp(since)
    )
    for batch in rows(lake.open(DRIFT), where=where):
        moments = [batch[name].cast(pa.int64()).to_pylist() for name in ("start", "end")]
        for start, end, row in zip(*moments, batch.to_pylist(), strict=True):
            window = found.setdefault((start, end), Window(start, end, {}, {}))
            if row["check"] == DIAGNOSIS:
                said = Diagnosis(row["verdict"], tuple(row["columns"]), row["reason"])
                assert isinstance(window.diagnoses, dict)
                window.diagnoses[row["asset"] or ""] = said
            else:
                assert isinstance(window.checks, dict)
                window.checks.setdefault(row["asset"], []).append(_check(row, place))
    return tuple(found[key] for key in sorted(found))


def _check(row: dict[str, object], place: Mapping[str, int]) -> Check:
    names = ("figure", "low", "high", "usual", "limit", "p_value", "adjusted_p_value")
    numbers = {name: math.nan if row[name] is None else row[name] for name in names}
    figure, low, high, usual, limit, p_value, adjusted = numbers.values()
    column = -1 if row["column"] is None else place[str(row["column"])]
    return Check(
        row["check"], column, Interval(figure, low, high), usual, limit, p_value,  # type: ignore[arg-type]
        row["n_windows"], adjusted, row["verdict"],  # type: ignore[arg-type]
    )  # fmt: skip


def log_drift(plant: PlantConfig, by: Judgement, windows: Sequence[Window]) -> None:
    """Send the figures of windows to the champion's run; what it has already stays.

    The table holds them whatever happens: where MLflow does not answer, the next call catches up.
    """
    try:
        tracking = open_tracking(plant)
        champion = tracking.champion()
        if champion is not None and champion.digest == by.package_digest:
            points = [(window.number, _metrics(window, by.columns)) for window in windows]
            tracking.log_curves(champion.run_id, points)
    except RegistryUnreachableError as error:
        logger.warning("the figures of drift stand in the lake and not yet in MLflow: %s", error)


def _metrics(window: Window, columns: Sequence[str]) -> dict[str, float | None]:
    """Figures that drifted, the score of each asset, the farthest of each column."""
    found: dict[str, float | None] = {}
    n_drifted = 0
    for asset, own in window.checks.items():
        for check in own:
            n_drifted += check.verdict == "drift"
            if math.isnan(check.figure.value):
                continue
            if check.name == "score":
                found[f"drift/score/{asset}"] = check.figure.value
            elif check.name in ("value", "residual"):
                name = f"drift/{check.name}/{columns[check.column]}"
                found[name] = max(check.figure.value, found.get(name) or 0.0)
    return {**found, "drift/n_drifted": float(n_drifted)}
