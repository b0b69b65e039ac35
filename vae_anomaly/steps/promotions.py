"""Who judges, and since when: every change of the champion, in the table `promotions`.

A change is written into the table first; then the aliases are made what the table says (see
`aliases`). What may be is decided by the table alone, in the commit that writes it down.

A champion stands on the one that it followed: a rollback takes it off, so that one rollback after
another goes further back, and never to and fro.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

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

__all__ = [
    "Action",
    "Promotion",
    "Standing",
    "append_promotion",
    "part_played",
    "promotions_of",
    "read_promotions",
    "refuse_archived",
    "speaker",
    "standing",
]

Action = Literal["first", "promoted", "recalibrated", "rolled_back", "archived", "found"]


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


def part_played(version: str, promotions: Sequence[Promotion]) -> str:
    """What became of a version, in a few words; empty where it never judged and is not archived.

    Examples
    --------
    >>> steps = [("first", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled_back", "2")]
    >>> entries = [Promotion(action, "", to, "ann", "") for action, to in steps]
    >>> [part_played(version, entries) for version in "1234"]
    ['superseded by 2', 'rolled back to', 'rolled back from', '']
    """
    now = standing(promotions)
    if version in now.archived:
        return "archived"
    if version == now.champion:
        last = [entry.action for entry in promotions if entry.to_version == version][-1]
        return {"rolled_back": "rolled back to", "found": "named in MLflow"}.get(last, last)
    if version in now.champions:
        place = len(now.champions) - 1 - now.champions[::-1].index(version)
        return f"superseded by {now.champions[place + 1]}"
    judged = any(e.to_version == version for e in promotions if e.action != "archived")
    return "rolled back from" if judged else ""


def read_promotions(lake: Lake) -> list[Promotion]:
    """All changes so far, the first one first; nothing where there was none."""
    table = lake.found(PROMOTIONS)
    return [] if table is None else promotions_of(table)


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
        before = promotions_of(table)
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
        refuse_archived(entry.to_version, before)


def refuse_archived(version: str, entries: Sequence[Promotion]) -> None:
    """Raise where a version is archived.

    Raises
    ------
    RegistryError
        It is.
    """
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


def promotions_of(table: DeltaTable) -> list[Promotion]:
    """Every change that a table holds, in its order."""
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return [Promotion(**row) for row in sorted(found, key=lambda row: row["number"])]


def _version(lake: Lake) -> int | None:
    readings = lake.found(READINGS)
    return None if readings is None else readings.version()


def _scored_through(lake: Lake) -> int | None:
    verdicts = lake.found(VERDICTS)
    return None if verdicts is None else transaction_number(verdicts, CHAMPION)
