"""What MLflow says of who judges: aliases and tags, made what the table `promotions` says.

A tag of the registered model says up to which row that is done. So what a kill cut short is
finished by the next change and by the next scoring, and a champion that somebody named in MLflow
itself is found and written down.

MLflow sets an alias whatever it was, also by a table that is out of date by then. So whoever sets
aliases reads the table again afterwards, and leaves a mark from before it reads the table until it
has seen nothing newer there. So an alias that an older row set is put right by who set it, or else
explained by the mark of one that was killed. What nothing explains was moved by hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import uuid4

from deltalake import DeltaTable

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import PROMOTIONS, Lake
from vae_anomaly.steps.promotions import (
    Action,
    Promotion,
    Standing,
    append_promotion,
    promotions_of,
    read_promotions,
    refuse_archived,
    speaker,
    standing,
)
from vae_anomaly.tracking import Tracking, Version

__all__ = ["ARCHIVED", "apply_promotions", "set_challenger", "set_champion", "settle"]

logger = logging.getLogger(__name__)

#: Tag of the registered model: table and row up to which its aliases are what the table says.
DONE: Final = "vae_anomaly.promotions"

#: Tags of the registered model, each of a process that sets aliases: from which row on.
SETTING: Final = "vae_anomaly.setting."

#: Tag of a version that is out of use: since when.
ARCHIVED: Final = "vae_anomaly.archived"

#: A process that began to set aliases so long ago was killed, and its mark goes.
GONE = timedelta(hours=1)


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
    refuse_archived(version.version, read_promotions(lake))
    tracking.set_challenger(version)
    entries = read_promotions(lake)
    now = standing(entries)
    if version.version in {now.champion, *now.archived}:  # and the alias was not there to be taken
        apply_promotions(plant, tracking)
    refuse_archived(version.version, entries)


def settle(plant: PlantConfig, tracking: Tracking) -> None:
    """Finish what was cut short, and write down a champion that was named in MLflow itself."""
    # in this order: who sets an alias by fewer rows than there are now left its mark before the
    # next row came, and takes it away only when the alias is right
    table = Lake(plant.lake, plant.contract).found(PROMOTIONS)
    notes = tracking.notes()
    versions = tracking.versions()
    entries = [] if table is None else promotions_of(table)
    done = _row(notes.get(DONE, ""), table, entries)
    marks = {name: text for name, text in notes.items() if name.startswith(SETTING)}
    first = min([done, *(_row(text, table, entries) for text in marks.values())])
    explained = {standing(entries[:n]).champion for n in range(first, len(entries) + 1)}
    alias = tracking.config.champion
    champion = next((version.version for version in versions if alias in version.aliases), "")
    if champion and champion not in explained:
        why = f"alias '{alias}' was moved in MLflow itself"
        found = Promotion("found", "", champion, "unknown", why)
        append_promotion(plant, found, seen=len(entries))
        apply_promotions(plant, tracking)
    elif done < len(entries) or (entries and _changes(tracking, versions, entries)):
        logger.warning(
            "a change was cut short, or is under way: version %s judges, as the table says; what "
            "lets another one judge is `vae-anomaly promote`, and not an alias moved in MLflow",
            standing(entries).champion,
        )
        apply_promotions(plant, tracking)
    for name, text in marks.items():
        if datetime.now(UTC) - datetime.fromisoformat(text.rpartition(" ")[2]) > GONE:
            tracking.drop_note(name)


def apply_promotions(plant: PlantConfig, tracking: Tracking) -> None:
    """Make the aliases and tags what the table says; the same again changes nothing.

    Of two processes at once, one may set its aliases by an older table over the other's: each
    reads the table again afterwards, and whoever is last has seen all of it.
    """
    lake = Lake(plant.lake, plant.contract)
    mark, since = f"{SETTING}{uuid4().hex}", datetime.now(UTC).isoformat(timespec="seconds")
    tracking.set_note(mark, f"{_place(lake.open(PROMOTIONS))} since {since}")
    while True:
        table = lake.open(PROMOTIONS)  # again: a row that came before the mark is in this one
        for change in _changes(tracking, tracking.versions(), promotions_of(table)):
            change()
        tracking.set_note(DONE, _place(table))
        if lake.open(PROMOTIONS).version() == table.version():
            break
    tracking.drop_note(mark)


def _changes(
    tracking: Tracking, versions: Sequence[Version], entries: Sequence[Promotion]
) -> list[Callable[[], None]]:
    """What makes the tags and aliases of some versions what the table says."""
    now, aliases = standing(entries), tracking.config
    known = {version.version: version for version in versions}
    last = {entry.to_version: entry for entry in entries if entry.to_version in known}
    changes: list[Callable[[], None]] = []
    for number, entry in last.items():
        is_out, is_marked = number in now.archived, ARCHIVED in known[number].tags
        if is_out and not is_marked:
            since = {ARCHIVED: f"{entry.at:%Y-%m-%d %H:%M} UTC by {entry.by}"}
            changes.append(partial(tracking.set_tags, known[number], since))
        elif is_marked and not is_out:
            changes.append(partial(tracking.drop_tag, known[number], ARCHIVED))
    holders = {alias: version.version for version in versions for alias in version.aliases}
    back = now.previous(known)
    for alias, number in ((aliases.previous, back), (aliases.champion, now.champion)):
        if number in known and holders.get(alias) != number:
            changes.append(partial(tracking.set_alias, alias, known[number]))
    if aliases.previous in holders and not back:
        changes.append(partial(tracking.drop_alias, aliases.previous))
    if holders.get(aliases.challenger) in {now.champion, *now.archived}:
        changes.append(partial(tracking.drop_alias, aliases.challenger))
    return changes


def _place(table: DeltaTable) -> str:
    """Last row of a table, and which table that is."""
    return f"{len(promotions_of(table))} of {table.metadata().id}"


def _row(place: str, table: DeltaTable | None, entries: Sequence[Promotion]) -> int:
    """Row of this very table that a note names; the last one if it names another table's."""
    if not place:
        return 0
    number, _, name = place.partition(" since ")[0].partition(" of ")
    return int(number) if table is not None and name == str(table.metadata().id) else len(entries)
