"""Which model judged what: the changes of the champion, and what the verdicts themselves say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import VERDICTS, Lake, as_timestamp, rows
from vae_anomaly.data.times import microseconds, moment_of
from vae_anomaly.data.windows import by_asset
from vae_anomaly.errors import InputError, closest
from vae_anomaly.steps.alarms import IS_CHAMPION
from vae_anomaly.steps.promotions import Promotion, read_promotions
from vae_anomaly.table import Table

__all__ = ["Judgement", "history", "history_table", "judged_by", "judged_table"]

#: What is read of a verdict.
COLUMNS = ["asset", "time", "score", "threshold", "status", "model_version", "package_digest",
           "readings_version"]  # fmt: skip


class Judge(NamedTuple):
    """Who stands for a verdict."""

    model_version: str
    package_digest: str


@dataclass(frozen=True)
class Judgement:
    """Verdicts of one model on one asset.

    Attributes
    ----------
    asset : str
    model_version, package_digest : str
    first, last : datetime
        Times of the readings that it judged, both included.
    first_readings, last_readings : int
        Versions of `readings` that they came in.
    statuses : dict of str to int
    highest : float or None
        The highest score among them; None where none has one.
    threshold : float or None
        Of that row.
    """

    asset: str
    model_version: str
    package_digest: str
    first: datetime
    last: datetime
    first_readings: int
    last_readings: int
    statuses: dict[str, int]
    highest: float | None
    threshold: float | None


def history(plant: PlantConfig) -> list[Promotion]:
    """Every change of who judges, the first one first."""
    return read_promotions(Lake(plant.lake, plant.contract))


def judged_by(plant: PlantConfig, asset: str, at: str) -> list[Judgement]:
    """Which model judged an asset on a day, or at a moment, as its verdicts say.

    Parameters
    ----------
    plant : PlantConfig
    asset : str
    at : str
        A day, such as 2026-03-03, of which all verdicts count; or a moment, for which the last
        verdict up to it stands. Without a zone it is in the plant's.

    Raises
    ------
    InputError
        It is no time, or there is no verdict on the asset then.
    LakeError
        Nothing was ever scored.
    """
    zone, is_day = plant.contract.time.zone, len(at.strip()) == len("2026-03-03")
    start = moment_of(at, zone)
    lake = Lake(plant.lake, plant.contract)
    own = IS_CHAMPION & (pc.field("asset") == asset)
    if is_day:
        end = moment_of(f"{at.strip()}T23:59:59.999999", zone)
        when = pc.field("time") >= as_timestamp(start)
        found = _read(lake, own & when & (pc.field("time") <= as_timestamp(end)))
    else:
        found = _last(lake, own & (pc.field("time") <= as_timestamp(start)))
    if not found.num_rows:
        raise InputError(_nothing(lake, asset, at))
    return _judgements(asset, found)


def _read(lake: Lake, where: pc.Expression) -> pa.Table:
    schema = pa.schema([lake.schema(VERDICTS).field(name) for name in COLUMNS])
    batches = rows(lake.open(VERDICTS), columns=COLUMNS, where=where)
    return pa.Table.from_batches(list(batches), schema)


def _last(lake: Lake, where: pc.Expression) -> pa.Table:
    """The latest of some verdicts, one batch at a time."""
    kept = _read(lake, pc.scalar(False))
    for batch in rows(lake.open(VERDICTS), columns=COLUMNS, where=where):
        both = pa.concat_tables([kept, pa.Table.from_batches([batch])])
        kept = both.sort_by([("time", "descending")]).slice(0, 1)
    return kept


def _judgements(asset: str, verdicts: pa.Table) -> list[Judgement]:
    """Verdicts by who judged, in the order of time."""
    found = []
    judges = zip(
        verdicts["model_version"].to_pylist(), verdicts["package_digest"].to_pylist(), strict=True
    )
    for judge in dict.fromkeys(Judge(*pair) for pair in judges):
        own = verdicts.filter(
            pc.and_(
                pc.equal(verdicts["model_version"], judge.model_version),
                pc.equal(verdicts["package_digest"], judge.package_digest),
            )
        ).sort_by("time")
        score = pc.fill_null(own["score"], np.nan).to_numpy()
        top = None if np.isnan(score).all() else int(np.nanargmax(score))
        versions = own["readings_version"].to_pylist()
        found.append(
            Judgement(
                asset,
                *judge,
                own["time"][0].as_py(),
                own["time"][-1].as_py(),
                min(versions),
                max(versions),
                dict(Counter(own["status"].to_pylist())),
                None if top is None else float(score[top]),
                None if top is None else own["threshold"][top].as_py(),
            )
        )
    return sorted(found, key=lambda entry: entry.first)


def _nothing(lake: Lake, asset: str, at: str) -> str:
    """Why nothing was found, and what there is."""
    spans: dict[str, tuple[int, int]] = {}
    for batch in rows(lake.open(VERDICTS), columns=["asset", "time"], where=IS_CHAMPION):
        for name, own in by_asset(pa.Table.from_batches([batch])):
            time = microseconds(own["time"])
            first, last = spans.get(name, (int(time[0]), int(time[-1])))
            spans[name] = min(first, int(time[0])), max(last, int(time[-1]))
    if asset not in spans:
        return f"no verdict is of asset '{asset}'; {closest(asset, spans)}"
    span = " to ".join(f"{as_timestamp(end).as_py():%Y-%m-%d %H:%M}" for end in spans[asset])
    return f"no verdict on '{asset}' at {at}; there are verdicts from {span} UTC"


def history_table(promotions: list[Promotion]) -> Table:
    """Changes of who judges, the latest first."""
    lines = tuple(
        (
            f"{entry.at:%Y-%m-%d %H:%M}",
            entry.action.replace("_", " "),
            entry.from_version or "–",
            entry.to_version,
            entry.by,
            entry.why,
            "–" if entry.scored_through is None else str(entry.scored_through),
        )
        for entry in reversed(promotions)
    )
    n = len(lines)
    summary = f"{n} change{'' if n == 1 else 's'} of who judges."
    columns = ("when (UTC)", "what", "from", "to", "by", "why", "readings judged through")
    notes = ("which model judged an asset: --asset NAME --at 2026-03-03",) if n else ()
    return Table("History", summary, columns, lines, notes, ("why",))


def judged_table(found: list[Judgement], at: str) -> Table:
    """Who judged an asset, one model a line."""
    lines = tuple(
        (
            entry.model_version,
            entry.package_digest[:12],
            f"{entry.first:%Y-%m-%d %H:%M:%S}",
            f"{entry.last:%Y-%m-%d %H:%M:%S}",
            _span(entry.first_readings, entry.last_readings),
            ", ".join(f"{n:,} {status}" for status, n in sorted(entry.statuses.items())),
            "–" if entry.highest is None else f"{entry.highest:.4g}",
            "–" if entry.threshold is None else f"{entry.threshold:.4g}",
        )
        for entry in found
    )
    who = " and ".join(f"version {entry.model_version}" for entry in found)
    summary = f"'{found[0].asset}' was judged by {who} at {at}."
    columns = ("version", "package", "from (UTC)", "to (UTC)", "readings", "verdicts",
               "highest score", "threshold")  # fmt: skip
    return Table("History", summary, columns, lines)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
