"""Two lines of verdicts on the same rows: what the challenger raises and finds, and the champion.

Each line goes through the alarm logic with the rule of its own package, and nobody is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import AlarmRule, Gate, PlantConfig
from vae_anomaly.data.exclusions import Excluded, read_exclusions
from vae_anomaly.data.lake import VERDICTS, Lake, rows
from vae_anomaly.data.times import microseconds
from vae_anomaly.data.told import Told, confirmed
from vae_anomaly.data.windows import by_asset
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.decisions.comparison import WEEK, Comparison, alarms_compared, faults_compared
from vae_anomaly.decisions.episodes import BoolArray, timeline
from vae_anomaly.decisions.occurrences import DAY_S, by_asset_day
from vae_anomaly.decisions.rates import FloatArray, IntArray, Interval, Share
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.alarm_rows import TELLING
from vae_anomaly.steps.alarms import CHAMPION
from vae_anomaly.steps.feedback import read_feedback
from vae_anomaly.steps.gate import rows_over
from vae_anomaly.tracking import Version, champion_package

__all__ = ["Beside", "beside_champion", "shadow_line"]

#: Columns of `verdicts` that two lines are compared by.
COLUMNS = ["line", "asset", "time", "status", "p_value", "late", "package_digest"]


@dataclass(frozen=True)
class Beside:
    """Figures of the two, and how many days of an asset both have judged."""

    figures: tuple[Comparison, ...] = ()
    asset_days: float = 0.0


@dataclass(frozen=True)
class _Side:
    """One line on the rows of one asset: alarms of each day, faults found, rows flagged."""

    counts: IntArray
    days: FloatArray
    found: BoolArray
    over: Share


def shadow_line(version: str) -> str:
    """Name of a challenger's line.

    Examples
    --------
    >>> shadow_line("7")
    'shadow:7'
    """
    return f"shadow:{version}"


def beside_champion(
    plant: PlantConfig, version: Version, package: ModelPackage, gate: Gate
) -> Beside:
    """The challenger's verdicts beside the champion's, on the rows that both have judged.

    Late verdicts raise no alarm, and are left out. A fault is a span that people confirmed: an
    alarm raised in it is right. Where they said that nobody knows, or that it was maintenance,
    nothing counts.

    Parameters
    ----------
    plant : PlantConfig
    version : Version
        The challenger.
    package : ModelPackage
        Its package.
    gate : Gate
        The margins.
    """
    lake = Lake(plant.lake, plant.contract)
    if lake.found(VERDICTS) is None:
        return Beside()
    champion = ModelPackage.read(champion_package(plant).folder)
    lines = {shadow_line(version.version): package, CHAMPION: champion}
    told = read_feedback(lake, numbered=plant.contract.label is not None).said
    windows = read_exclusions(plant.alarms.maintenance, plant.contract.time.zone)
    pairs = []
    for asset, own in by_asset(_verdicts(lake, lines)):
        here = [w for w in windows if any(fnmatchcase(asset, p) for p in w.assets)]
        spans = told.get(asset, ())
        rules = {line: judge.alarm_rule.replayed for line, judge in lines.items()}
        pairs.append(_sides(own, rules, spans, here, plant.contract.sampling.max_gap_s))
    return _compared(plant, gate, [pair for pair in pairs if pair])


def _verdicts(lake: Lake, lines: Mapping[str, ModelPackage]) -> pa.Table:
    """Verdicts of the two packages in their lines that say something and are not late."""
    tells = ~pc.field("late") & pc.field("status").isin(TELLING)
    own = pc.scalar(False)
    for line, package in lines.items():
        own |= (pc.field("line") == line) & (pc.field("package_digest") == package.digest)
    batches = rows(lake.open(VERDICTS), columns=COLUMNS, where=tells & own)
    schema = pa.schema([lake.schema(VERDICTS).field(name) for name in COLUMNS])
    return pa.Table.from_batches(list(batches), schema)


def _sides(
    verdicts: pa.Table,
    rules: Mapping[str, AlarmRule],
    told: Sequence[Told],
    maintenance: Sequence[Excluded],
    max_gap_s: float | None,
) -> tuple[_Side, ...]:
    """Each line on the rows of one asset that both have judged; nothing where there are none."""
    ours, theirs = (verdicts.filter(pc.equal(verdicts["line"], line)) for line in rules)
    both = np.intersect1d(microseconds(ours["time"]), microseconds(theirs["time"]))
    if not len(both):
        return ()
    nobody_knows = _inside(both, [*maintenance, *(t for t in told if not t.counts)])
    faults = [fault for fault in confirmed(told) if _inside(both, [fault]).any()]
    faulty = _inside(both, faults)
    timed = timeline(["asset"] * len(both), (both - both[0]) / 1e6, max_gap_s=max_gap_s)
    sides = []
    for table, rule in zip((ours, theirs), rules.values(), strict=True):
        own = table.filter(pa.array(np.isin(microseconds(table["time"]), both)))
        status = own["status"].to_numpy()
        suppressed = (status == "off") | nobody_knows
        p_value = pc.fill_null(own["p_value"], 0.0).to_numpy().astype(np.float64)
        rows = Evidence.of(both, status == "anomaly", suppressed, p_value, rule)
        raised = np.array([alarm.raised for alarm in episodes(rows, rule)], np.int64)
        at = np.searchsorted(both, raised)
        by_day = by_asset_day(timed, at[~faulty[at]], ~(suppressed | faulty))
        found = [bool(((raised >= f.start) & (raised < f.end)).any()) for f in faults]
        well = ~(suppressed | faulty)
        over = Share(int((rows.exceeds & well).sum()), int(well.sum()))
        sides.append(_Side(by_day.counts, by_day.days, np.array(found, np.bool_), over))
    return tuple(sides)


def _inside(time: IntArray, spans: Sequence[Excluded | Told]) -> BoolArray:
    """(n,) whether each moment lies in one of the spans."""
    inside = np.zeros(len(time), np.bool_)
    for span in spans:
        inside |= (time >= span.start) & (time < span.end)
    return inside


def _compared(plant: PlantConfig, gate: Gate, pairs: Sequence[tuple[_Side, ...]]) -> Beside:
    """The figures of all assets together."""
    if not pairs:
        return Beside()
    ours, theirs = zip(*pairs, strict=True)
    days = np.concatenate([side.days for side in theirs])
    budget = plant.calibration.budget
    counts = [np.concatenate([side.counts for side in line]) for line in (ours, theirs)]
    figures = [
        alarms_compared(
            counts[0],
            counts[1],
            days,
            max_ratio=gate.max_false_alarm_ratio,
            budget_per_week=None if budget is None else budget.per_second * DAY_S * WEEK,
            confidence=gate.confidence,
            figure="alarms per asset and week in service",
            seed=plant.seed,
        )
    ]
    found = [np.concatenate([side.found for side in line]) for line in (ours, theirs)]
    if len(found[0]):
        figures.append(
            faults_compared(
                found[0], found[1], max_loss=gate.max_fault_loss, confidence=gate.confidence,
                figure="confirmed faults found in service", seed=plant.seed,
            )
        )  # fmt: skip
    mine, other = (_joined(side.over for side in line) for line in (ours, theirs))
    figures.append(rows_over(gate, mine, other, where=" in service"))
    return Beside(tuple(figures), float(days.sum()))


def _joined(shares: Iterable[Share]) -> Interval:
    each = list(shares)
    return Share(sum(s.count for s in each), sum(s.total for s in each)).interval()
