"""Who judges, and since when: every change of the champion, in the table `promotions` and MLflow.

A change is written into the table first; then the aliases are made what the table says, and a tag
of the registered model says up to which row that is done. So what a kill cut short is finished by
the next change and by the next scoring, and a champion that somebody named in MLflow itself is
found and written down.

MLflow sets an alias whatever it was. So what may be is decided by the table alone, in the commit
that writes it down, and whoever sets aliases reads the table again afterwards.

A champion stands on the one that it followed: a rollback takes it off, so that one rollback after
another goes further back, and never to and fro.
"""

from __future__ import annotations

import getpass
import logging
import os
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

import pyarrow as pa
from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import (
    PROMOTIONS,
    READINGS,
    VERDICTS,
    Lake,
    commit,
    rows,
    transaction_number,
    until_committed,
)
from vae_anomaly.errors import RegistryError
from vae_anomaly.steps.alarms import CHAMPION
from vae_anomaly.tracking import Tracking, Version

__all__ = [
    "ARCHIVED",
    "Action",
    "Promotion",
    "Standing",
    "append_promotion",
    "apply_promotions",
    "read_promotions",
    "set_challenger",
    "set_champion",
    "settle",
    "speaker",
    "standing",
]

logger = logging.getLogger(__name__)

Action = Literal["first", "promoted", "recalibrated", "rolled_back", "archived", "found"]

#: Tag of the registered model: table and row up to which its aliases are what the table says.
DONE: Final = "vae_anomaly.promotions"

#: Tag of a version that is out of use: since when.
ARCHIVED: Final = "vae_anomaly.archived"


#: Seconds that another process may take to see that the aliases it sets are of an older table.
SETTLING_S = 2.0


@dataclass(frozen=True)
class Promotion:
    """A change of who judges.

    Attributes
    ----------
    action : str
        ``first``, ``promoted``, ``recalibrated``, ``rolled_back``; ``archived``, which takes
        `to_version` out of use; ``found``, a champion that was named in MLflow itself.
    from_version, to_version : str
        Champion before and after; `from_version` is empty before the first.
    by, why : str
    gate : str
        JSON of the figures that were looked at; empty where none were.
    readings_version, scored_through : int or None
        Versions of `readings` that there was, and up to which the champion before had judged.
    number : int
        Place in the table; 0 until it is written.
    """

    action: Action
    from_version: str
    to_version: str
    by: str
    why: str
    gate: str = ""
    readings_version: int | None = None
    scored_through: int | None = None
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    number: int = 0


@dataclass(frozen=True)
class Standing:
    """What a table of promotions comes to.

    Attributes
    ----------
    champions : tuple of str
        Versions, each on the one that a rollback goes back to; the last one judges.
    archived : frozenset of str
    """

    champions: tuple[str, ...] = ()
    archived: frozenset[str] = frozenset()

    @property
    def champion(self) -> str:
        """Version that judges; empty before the first."""
        return self.champions[-1] if self.champions else ""

    def previous(self, known: Collection[str]) -> str:
        """Version that a rollback goes back to, of those that there still are; else empty."""
        below = (v for v in reversed(self.champions[:-1]) if v != self.champion)
        return next((v for v in below if v in known and v not in self.archived), "")


def standing(promotions: Iterable[Promotion]) -> Standing:
    """Who judges after some changes, and on whom each champion stands.

    Examples
    --------
    >>> steps = [("first", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled_back", "2")]
    >>> found = standing(Promotion(action, "", to, "ann", "") for action, to in steps)
    >>> found.champions, found.previous("123")
    (('1', '2'), '1')
    """
    stack: list[str] = []
    archived: set[str] = set()
    for entry in promotions:
        if entry.action == "archived":
            archived.add(entry.to_version)
            continue
        archived.discard(entry.to_version)
        if entry.action == "rolled_back" and entry.to_version in stack:
            while stack[-1] != entry.to_version:
                stack.pop()
        elif not stack or stack[-1] != entry.to_version:
            stack.append(entry.to_version)
    return Standing(tuple(stack), frozenset(archived))


def read_promotions(lake: Lake) -> list[Promotion]:
    """All changes so far, the first one first; nothing where there was none."""
    table = lake.found(PROMOTIONS)
    return [] if table is None else _read(table)


def set_champion(
    plant: PlantConfig,
    tracking: Tracking,
    version: Version,
    *,
    action: Action,
    why: str,
    by: str = "",
    gate: str = "",
    force: bool = False,
) -> Standing:
    """Let a version judge from the next scoring on; nothing is written if it does already.

    Parameters
    ----------
    plant : PlantConfig
    tracking : Tracking
    version : Version
    action : str
        See `Promotion`.
    why : str
    by : str, optional
        See `speaker`.
    gate : str, optional
        JSON of the figures that were looked at.
    force : bool, optional
        Also one that is archived.

    Raises
    ------
    RegistryError
        The version is archived; or MLflow does not answer, or refuses. A change that stands in the
        table is finished later.
    """
    entry = Promotion(action, "", version.version, speaker(by), why, gate)
    settle(plant, tracking)
    now = append_promotion(plant, entry, force=force)
    apply_promotions(plant, tracking)
    champion = tracking.champion()
    assert champion is not None
    tracking.fetch_package(champion, plant.work_path / "packages")  # MLflow may not answer later
    logger.info("version %s judges from now on: %s", version.version, why)
    return now


def set_challenger(plant: PlantConfig, tracking: Tracking, version: Version) -> None:
    """Let a version contend.

    Parameters
    ----------
    plant : PlantConfig
    tracking : Tracking
    version : Version

    Raises
    ------
    RegistryError
        It is archived, or was meanwhile.
    """
    lake = Lake(plant.lake, plant.contract)
    _refuse_archived(version.version, read_promotions(lake))
    tracking.set_challenger(version)
    entries = read_promotions(lake)
    now = standing(entries)
    if version.version in {now.champion, *now.archived}:  # and the alias was not there to be taken
        apply_promotions(plant, tracking)
    _refuse_archived(version.version, entries)


def settle(plant: PlantConfig, tracking: Tracking) -> None:
    """Finish what was cut short, and write down a champion that was named in MLflow itself."""
    lake = Lake(plant.lake, plant.contract)
    table = lake.found(PROMOTIONS)
    before = [] if table is None else _read(table)
    if table is not None and _done(tracking, table) < len(before):
        logger.warning("a change of the champion was cut short; it is finished now")
        apply_promotions(plant, tracking)
    champion, known = tracking.champion(), standing(before).champion
    if champion is None and known:
        logger.warning("no version has the alias of the champion; version %s gets it back", known)
        apply_promotions(plant, tracking)
    if champion is None or champion.version == known:
        return
    time.sleep(SETTLING_S)
    again = tracking.champion()
    if again is None or again.version != champion.version:  # it was not by hand
        settle(plant, tracking)
        return
    why = f"alias '{tracking.config.champion}' was moved in MLflow itself"
    found = Promotion("found", "", champion.version, "unknown", why)
    append_promotion(plant, found, seen=len(before))
    apply_promotions(plant, tracking)


def append_promotion(
    plant: PlantConfig, entry: Promotion, *, force: bool = False, seen: int | None = None
) -> Standing:
    """Write a change behind the others, unless it changes nothing; what they all come to then.

    Its number, its time, the champion before and what had been judged are filled in.

    Parameters
    ----------
    plant : PlantConfig
    entry : Promotion
    force : bool, optional
        Also of a version that is archived.
    seen : int, optional
        Changes by which it was decided: where there are others by now, nothing is written.

    Raises
    ------
    RegistryError
        A version that is archived would judge, or the one that judges be archived.
    """
    lake = Lake(plant.lake, plant.contract)
    found: list[Standing] = []

    def attempt() -> bool:
        table = lake.writable(PROMOTIONS)
        before = _read(table)
        now = standing(before)
        done = now.archived if entry.action == "archived" else {now.champion}
        if entry.to_version in done or seen not in (None, len(before)):
            found[:] = [now]
            return True
        if not force:
            _refuse(entry, before)
        written = replace(
            entry, number=len(before) + 1, at=datetime.now(UTC), from_version=now.champion,
            readings_version=_version(lake), scored_through=_scored_through(lake),
        )  # fmt: skip
        found[:] = [standing([*before, written])]
        data = pa.Table.from_pylist([vars(written)], schema=lake.schema(PROMOTIONS))
        return commit(table, data, {PROMOTIONS: written.number})

    until_committed(attempt)
    return found[0]


def _refuse(entry: Promotion, before: Sequence[Promotion]) -> None:
    """Refuse what may not be, as the table stands; what was found in MLflow is so already."""
    if entry.action == "archived" and entry.to_version == standing(before).champion:
        raise RegistryError(
            f"version {entry.to_version} judges; promote another one or roll back first"
        )
    if entry.action not in ("archived", "found"):
        _refuse_archived(entry.to_version, before)


def _refuse_archived(version: str, entries: Sequence[Promotion]) -> None:
    if version not in standing(entries).archived:
        return
    ends = (e for e in reversed(entries) if (e.action, e.to_version) == ("archived", version))
    last = next(ends)
    raise RegistryError(
        f"version {version} is archived ({last.at:%Y-%m-%d %H:%M} UTC by {last.by}); "
        f"`vae-anomaly promote plant.yml {version} --force` lets it judge all the same"
    )


def speaker(by: str = "") -> str:
    """Who changes something: who is given, else VAE_ANOMALY_USER, else the login name."""
    try:
        return by or os.environ.get("VAE_ANOMALY_USER") or getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return f"user {os.getuid()}"


def apply_promotions(plant: PlantConfig, tracking: Tracking) -> None:
    """Make the aliases and tags what the table says; the same again changes nothing.

    Of two processes at once, one may set its aliases by an older table over the other's: each
    reads the table again afterwards, and whoever is last has seen all of it.
    """
    lake = Lake(plant.lake, plant.contract)
    table = lake.open(PROMOTIONS)
    while True:
        entries = _read(table)
        _set_aliases(tracking, entries)
        tracking.set_note(DONE, f"{len(entries)} of {table.metadata().id}")
        latest = lake.open(PROMOTIONS)
        if latest.version() == table.version():
            return
        table = latest


def _set_aliases(tracking: Tracking, entries: Sequence[Promotion]) -> None:
    now, aliases = standing(entries), tracking.config
    versions = {version.version: version for version in tracking.versions()}
    for entry in entries:
        version = versions.get(entry.to_version)
        if version is None:
            continue
        is_out, is_marked = entry.to_version in now.archived, ARCHIVED in version.tags
        if is_out and not is_marked and entry.action == "archived":
            tracking.set_tags(version, {ARCHIVED: f"{entry.at:%Y-%m-%d %H:%M} UTC by {entry.by}"})
        elif is_marked and not is_out:
            tracking.drop_tag(version, ARCHIVED)
    back = versions.get(now.previous(versions))
    if back is not None:
        tracking.set_alias(aliases.previous, back)
    elif tracking.previous() is not None:
        tracking.drop_alias(aliases.previous)
    if now.champion in versions:
        tracking.set_alias(aliases.champion, versions[now.champion])
    challenger = tracking.challenger()
    if challenger is not None and challenger.version in {now.champion, *now.archived}:
        tracking.drop_alias(aliases.challenger)


def _done(tracking: Tracking, table: DeltaTable) -> int:
    """Row of this very table up to which the aliases were set; a high number if of another."""
    number, _, name = tracking.note(DONE).partition(" of ")
    if not number:
        return 0
    return int(number) if name == str(table.metadata().id) else len(_read(table))


def _read(table: DeltaTable) -> list[Promotion]:
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return [Promotion(**row) for row in sorted(found, key=lambda row: row["number"])]


def _version(lake: Lake) -> int | None:
    readings = lake.found(READINGS)
    return None if readings is None else readings.version()


def _scored_through(lake: Lake) -> int | None:
    verdicts = lake.found(VERDICTS)
    return None if verdicts is None else transaction_number(verdicts, CHAMPION)
