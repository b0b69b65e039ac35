"""Verdicts of the same weights → rows to set thresholds on anew, and what was said of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.exclusions import Excluded, read_exclusions
from vae_anomaly.data.lake import PARTS, READINGS, VERDICTS, Lake, rows
from vae_anomaly.data.times import microseconds
from vae_anomaly.data.told import Told, confirmed
from vae_anomaly.data.windows import by_asset
from vae_anomaly.decisions.budget import History
from vae_anomaly.decisions.recalibration import Marked, Span
from vae_anomaly.decisions.reference import clear_of_anomalies
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.alarm_rows import TELLING
from vae_anomaly.steps.alarms import IS_CHAMPION
from vae_anomaly.steps.feedback import Feedback
from vae_anomaly.streaming import EVERY_ASSET, levelled

__all__ = ["marked_rows"]

#: What is read of a verdict.
COLUMNS = ["line", "asset", "time", "score", "status", "mode", "late", "package_digest"]

#: Parts whose rows are no fresh history: the weights have seen them, or they are looked at once.
SEEN = ("train", "stop", "test")


def marked_rows(
    plant: PlantConfig,
    lake: Lake,
    package: ModelPackage,
    digests: Collection[str],
    feedback: Feedback,
) -> dict[str, list[Marked]]:
    """Rows that a package's weights have judged, scorer by scorer, one entry an asset.

    Scores are levelled, as the package's thresholds are. Scorers without a normal row that they
    have not seen are left out.

    Parameters
    ----------
    plant : PlantConfig
    lake : Lake
    package : ModelPackage
    digests : collection of str
        Of all packages that have these weights.
    feedback : Feedback
        Rows that it names are normal if they are told to be, and else neither they nor rows whose
        scores look back on them. A false alarm of which the weights have seen all is left out.
    """
    table = _verdicts(lake, digests)
    seen = _seen(lake, package.provenance.fingerprint)
    windows = read_exclusions(plant.alarms.maintenance, plant.contract.time.zone)
    labelled = _labelled(lake)
    found: dict[str, list[Marked]] = {}
    for asset, own in by_asset(table):
        unit = EVERY_ASSET if EVERY_ASSET in package.units else asset
        if unit not in package.units:
            continue
        here = [w for w in windows if any(fnmatchcase(asset, p) for p in w.assets)]
        judged = (own["status"].to_numpy() != "off") & ~_within(own, here)
        known = _within(own, seen.get(asset, ()))
        time, said = microseconds(own["time"]), feedback.said.get(asset, ())
        doubtful = np.isin(time, labelled.get(asset, ()))
        for span in feedback.with_open.get(asset, ()):
            doubtful[_rows(time, span)] = span.label > 0
        clear = clear_of_anomalies(
            doubtful.astype(np.int64), np.arange(len(time)), package.units[unit].scorer.left_context
        )
        plain = pc.fill_null(own["score"], np.nan).to_numpy().astype(np.float64)
        score = levelled(plain, own, package.units[unit].levels)
        fresh = tuple(
            Span(told.start, told.end)
            for told in said
            if told.counts and not told.is_fault and not known[_rows(time, told)].all()
        )
        history = History(time, score, judged & ~known & clear)
        events = tuple(Span(fault.start, fault.end) for fault in confirmed(said))
        found.setdefault(unit, []).append(Marked(history, judged, fresh, events))
    return {
        unit: assets
        for unit, assets in found.items()
        if any(asset.history.is_normal.any() for asset in assets)
    }


def _verdicts(lake: Lake, digests: Collection[str]) -> pa.Table:
    """Verdicts that say something, late ones left out."""
    tells = (
        IS_CHAMPION
        & ~pc.field("late")
        & pc.field("status").isin(TELLING)
        & pc.field("package_digest").isin(sorted(digests))
    )
    batches = rows(lake.open(VERDICTS), columns=COLUMNS)
    return pa.Table.from_batches(
        [batch for batch in (b.filter(tells) for b in batches) if batch.num_rows],
        pa.schema([lake.schema(VERDICTS).field(name) for name in COLUMNS]),
    )


def _seen(lake: Lake, fingerprint: str) -> dict[str, list[Span]]:
    """Spans of each asset that the training of a fingerprint has used up."""
    table = lake.found(PARTS)
    found: dict[str, list[Span]] = {}
    if table is None:
        return found
    where = (pc.field("fingerprint") == fingerprint) & pc.field("part").isin(SEEN)
    for batch in rows(table, where=where):
        ends = (batch[name].cast(pa.int64()).to_pylist() for name in ("start", "end"))
        for asset, start, end in zip(batch["asset"].to_pylist(), *ends, strict=True):
            found.setdefault(asset, []).append(Span(start, end + 1))
    return found


def _labelled(lake: Lake) -> dict[str, np.ndarray]:
    """Times of the rows of each asset that came with the label of an anomaly."""
    found: dict[str, list[np.ndarray]] = {}
    anomalies = rows(lake.open(READINGS), columns=["asset", "time"], where=pc.field("label") > 0)
    for batch in anomalies:
        for asset, own in by_asset(pa.Table.from_batches([batch])):
            found.setdefault(asset, []).append(microseconds(own["time"]))
    return {asset: np.concatenate(pieces) for asset, pieces in found.items()}


def _within(table: pa.Table, spans: Sequence[Excluded | Span]) -> np.ndarray:
    """(n,) whether each row lies in one of the spans."""
    time = microseconds(table["time"])
    inside = np.zeros(len(time), bool)
    for span in spans:
        inside[_rows(time, span)] = True
    return inside


def _rows(time: np.ndarray, span: Excluded | Told | Span) -> slice:
    first, last = np.searchsorted(time, [span.start, span.end])
    return slice(int(first), int(last))
