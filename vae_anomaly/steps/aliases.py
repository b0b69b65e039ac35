"""What MLflow says of who judges: aliases and tags, made what the table `promotions` says.

A tag of the registered model says up to which row that is done. So what a kill cut short is
finished by the next change and by the next scoring, and a champion that somebody named in MLflow
itself is found and written down.

MLflow sets an alias whatever it was. So whoever sets aliases reads the table again afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

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

#: Tag of a version that is out of use: since when.
ARCHIVED: Final = "vae_anomaly.archived"


#: Seconds that another process may take to see that the aliases it sets are of an older table.
SETTLING_S = 2.0


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
    lake = Lake(plant.lake, plant.contract)
    table = lake.found(PROMOTIONS)
    before = [] if table is None else promotions_of(table)
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


def apply_promotions(plant: PlantConfig, tracking: Tracking) -> None:
    """Make the aliases and tags what the table says; the same again changes nothing.

    Of two processes at once, one may set its aliases by an older table over the other's: each
    reads the table again afterwards, and whoever is last has seen all of it.
    """
    lake = Lake(plant.lake, plant.contract)
    table = lake.open(PROMOTIONS)
    while True:
        entries = promotions_of(table)
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
    return int(number) if name == str(table.metadata().id) else len(promotions_of(table))
