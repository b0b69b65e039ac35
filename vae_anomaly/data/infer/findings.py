"""All that a sample says of its source, as the sections of a plant.yml need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from vae_anomaly.config import MISSING_TEXTS, TimeColumn
from vae_anomaly.data.cells import as_texts
from vae_anomaly.data.infer.assets import Keys, codes_of, find_keys, groups
from vae_anomaly.data.infer.columns import Column, describe
from vae_anomaly.data.infer.entries import Entry, condition_entry, sensor_entries
from vae_anomaly.data.infer.machines import Machines, find_machines
from vae_anomaly.data.infer.roles import Long, Roles, find_long, find_roles
from vae_anomaly.data.infer.sample import Sample
from vae_anomaly.data.infer.sampling import Pace, find_pace
from vae_anomaly.data.infer.shares import Usable, find_usable
from vae_anomaly.data.infer.times import NONE, Times, find_times
from vae_anomaly.data.infer.words import THOUSANDS
from vae_anomaly.data.infer.zones import find_changes, find_zones
from vae_anomaly.errors import SourceError

__all__ = ["Findings", "find"]

#: Different unknown texts among the numbers of a column; of more none is a state.
MOST_STATES = 10


@dataclass(frozen=True)
class Findings:
    """What was found; the sections of plant.yml in their order.

    Attributes
    ----------
    sample : Sample
    time : TimeColumn
    time_comment : str
    keys : Keys
    long : Long, optional
    pace : Pace
    roles : Roles
    sensors, context : tuple of Entry
    texts : tuple of str
        Texts among the numbers that seem to mean no value and are not known yet.
    machines : Machines
        What tells the files' machines apart, where no column does.
    n_assets : int
    span : str
        From when to when.
    usable : Usable
        How many rows the parts have.
    notes : tuple of str
        What a person must look at.
    """

    sample: Sample
    time: TimeColumn
    time_comment: str
    keys: Keys
    long: Long | None
    pace: Pace
    roles: Roles
    sensors: tuple[Entry, ...]
    context: tuple[Entry, ...] = ()
    texts: tuple[str, ...] = ()
    machines: Machines = field(default_factory=Machines)
    n_assets: int = 1
    span: str = ""
    usable: Usable = field(default_factory=lambda: Usable(0, 1.0))
    notes: tuple[str, ...] = field(default_factory=tuple)


def find(sample: Sample, *, name: str = "plant") -> Findings:
    """Look through a sample.

    Parameters
    ----------
    sample : Sample
    name : str
        Of the plant: that of its one machine too, where nothing else names it.

    Raises
    ------
    SourceError
        There is no column of numbers to watch.
    """
    decimal = sample.dialect.decimal
    columns = describe(sample.cells, decimal)
    times = find_times(sample.cells, columns, decimal)
    time_name = times.setting.column if times else ""
    long = find_long(columns, time_name) if times else None
    block = sample.block
    moments = times.moments if times else None
    if long is not None:
        block = groups(block, codes_of(sample.cells[long.tag]))
    others = {n: c for n, c in columns.items() if long is None or n not in (long.tag, long.value)}
    keys = find_keys(sample.cells, others, block, moments, time_name)
    asset = None if keys.asset is None else codes_of(sample.cells[keys.asset])
    group = groups(block, asset)
    if moments is None:
        steps = columns[keys.counter].values if keys.counter else sample.row - 1
        moments = np.nan_to_num(steps * keys.step_s * 1e6).astype(np.int64)
    pace = find_pace(moments, group)
    setting, comment, time_notes = _time(times, keys, group, pace)
    taken = frozenset(
        name
        for name in (setting.column, keys.asset, *((long.tag, long.value) if long else ()))
        if name
    )
    roles = find_roles(columns, taken)
    sensors = _sensors(sample, columns, roles, long, group, moments)
    if not any(entry.is_active for entry in sensors):
        raise SourceError(
            f"{sample.files[0].path}: no column holds numbers that change; found "
            + ", ".join(f"'{name}' ({column.kind})" for name, column in list(columns.items())[:8])
        )
    machines = Machines()
    if asset is None and times is not None:
        machines = _machines(sample, moments, pace, name)
        if machines.setting is not None:
            group = machines.of_file[sample.file]
    n_files = machines.n or len(sample.files)
    found = Findings(
        sample, setting, comment, keys, long, pace, roles, sensors,
        tuple(condition_entry(columns[name]) for name in roles.context),
        _states(columns, sensors, long),
        machines,
        n_files if asset is None else len(np.unique(asset)),
        _span(moments, times is not None),
        find_usable(columns[roles.label].values if roles.label else None, group, moments),
    )  # fmt: skip
    asset_notes = [machines.note] if machines.note else []
    return replace(found, notes=(*time_notes, *asset_notes, *_notes(found, columns)))


def _machines(sample: Sample, moments: np.ndarray, pace: Pace, name: str) -> Machines:
    """What the names of the files, and the times of those that were read, say of machines."""
    first, last = np.full((2, len(sample.files)), np.nan)
    for at in np.unique(sample.file):
        own = moments[(sample.file == at) & (moments != NONE)]
        if len(own):
            first[at], last[at] = own.min(), own.max()
    paths = [file.path for file in sample.files]
    return find_machines(paths, first, last, max_gap=pace.max_gap_s * 1e6, name=name)


# ---------------------------------------------------------------------------------------- time


def _time(
    times: Times | None, keys: Keys, group: np.ndarray, pace: Pace
) -> tuple[TimeColumn, str, list[str]]:
    """How times are read, what stands beside it, and what a person must decide."""
    if times is None:
        column = keys.counter or ""
        setting = TimeColumn(column=column, step_s=keys.step_s)
        if column:
            return setting, "it counts steps, of step_s seconds each, from 1970 on", []
        return setting, "no column holds times: the number of a row in its file counts steps", []
    notes = [f"time: {times.note}"] if times.note else []
    if times.setting.epoch is not None:
        return times.setting, f"{times.setting.epoch} since 1970, in UTC", notes
    if not times.is_local:
        return times.setting, "the texts say how far from UTC they are", notes
    known = times.moments != NONE
    moments, own = times.moments[known], group[known]
    changes = find_changes(moments, own, pace.period_s)
    span = (int(moments.min()), int(moments.max()))
    zones = find_zones(changes, *span, pace.period_s)
    if not zones:
        comment = "nothing says of which zone; write another if these are local times"
        if changes.back:
            at = _moment(changes.back[0])
            notes.append(
                f"time: an hour comes twice behind {at}, where no zone known here has its clocks "
                "put back; rows of that hour are repetitions, or conflict"
            )
        return times.setting, comment, notes
    back = f"an hour comes twice behind {_moment(changes.back[0])}" if changes.back else ""
    skip = f"an hour is missing behind {_moment(changes.forward[0])}" if changes.forward else ""
    alike = f"; so do {', '.join(zones[1:4])}" if len(zones) > 1 else ""
    comment = (
        f"{' and '.join(filter(None, (back, skip)))}, as the clocks of {zones[0]} have it{alike}"
    )
    notes.append(f"time: zone {zones[0]}, for {comment}")
    return times.setting.model_copy(update={"zone": zones[0]}), comment, notes


def _moment(micros: int) -> str:
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=micros):%Y-%m-%d %H:%M}"


def _span(moments: np.ndarray, is_time: bool) -> str:
    known = moments[moments != NONE]
    if not is_time or not len(known):
        return ""
    return f"{_moment(int(known.min()))} to {_moment(int(known.max()))}"


# ------------------------------------------------------------------------------------- sensors


def _sensors(
    sample: Sample,
    columns: Mapping[str, Column],
    roles: Roles,
    long: Long | None,
    group: np.ndarray,
    moments: np.ndarray,
) -> tuple[Entry, ...]:
    """Lines of the columns, or of the tags of a long table."""
    where = _places(sample, moments)
    units = dict(zip(sample.cells, sample.dialect.units, strict=False))
    if long is None:
        own = {name: columns[name] for name in roles.sensors}
        entries = sensor_entries(own, group, units, where)
        return tuple(_with_quality(entry, roles) for entry in entries)
    tags = np.array([text or "" for text in as_texts(sample.cells[long.tag])])
    found: list[Entry] = []
    for tag in dict.fromkeys(tags.tolist()):
        rows = np.flatnonzero(tags.astype(str) == tag)
        column = columns[long.value]
        part = replace(column, name=tag.strip(), values=column.values[rows], n_filled=len(rows))
        found += sensor_entries({tag.strip(): part}, group[rows], {}, _shifted(where, rows))
    return tuple(entry for entry in found if entry.name)


def _shifted(where: Callable[[int], str], rows: np.ndarray) -> Callable[[int], str]:
    return lambda at: where(int(rows[at]))


def _places(sample: Sample, moments: np.ndarray) -> Callable[[int], str]:
    def where(at: int) -> str:
        name = sample.files[int(sample.file[at])].path.rpartition("/")[2]
        row = f"row {sample.row[at]:,} of " if sample.is_whole else ""
        moment = f" ({_moment(int(moments[at]))})" if moments[at] > 10**14 else ""
        return f"at {row}{name}{moment}"

    return where


def _with_quality(entry: Entry, roles: Roles) -> Entry:
    """The sensor's own column of quality codes, where one is named after it."""
    for column in roles.quality:
        rest = column.removeprefix(entry.name)
        if rest != column and entry.name and not rest[:1].isalnum():
            return replace(entry, settings=entry.settings | {"quality": column})
    return entry


def _states(
    columns: Mapping[str, Column], sensors: tuple[Entry, ...], long: Long | None
) -> tuple[str, ...]:
    """Unknown words in columns of numbers, where they are few and rare."""
    names = [long.value] if long else [entry.name for entry in sensors if entry.is_active]
    known = {text.lower() for text in MISSING_TEXTS}
    found: dict[str, None] = {}
    for name in names:
        column = columns[name]
        words = [text for text in column.odd if _is_state(text)]
        if len(words) <= MOST_STATES and sum(column.odd[w] for w in words) <= 0.5 * column.n_rows:
            found |= dict.fromkeys(word for word in words if word.lower() not in known)
    return tuple(found)


def _is_state(text: str) -> bool:
    """Whether a text can be the name of a state: words, no number with a unit or a comma astray."""
    letters = sum(letter.isalpha() for letter in text)
    return len(text) <= 40 and letters * 2 >= len(text) and not text[0].isdigit()


# ---------------------------------------------------------------------------------------- rows


def _notes(found: Findings, columns: Mapping[str, Column]) -> list[str]:
    """What a person must look at, beside the time."""
    notes: list[str] = []
    by_note: dict[str, list[str]] = {}
    for entry in found.sensors:
        if entry.note:
            by_note.setdefault(entry.note, []).append(entry.name)
    words = {
        "constant": "constant, stay as sensors that report a change",
        "copy": "follow an earlier column exactly, stay in",
        "total": "only ever rise, left out",
        "mostly missing": "mostly missing, left out",
    }
    notes += [f"{words.get(note, note)}: {_some(names)}" for note, names in by_note.items()]
    if found.roles.left_out:
        notes.append(f"left out: {_some(list(found.roles.left_out))}")
    for name, column in columns.items():
        numbers = {t: n for t, n in column.odd.items() if THOUSANDS.fullmatch(t)}
        if numbers:
            notes.append(
                f"'{name}': {sum(numbers.values()):,} numbers such as '{next(iter(numbers))}' have "
                "signs between thousands; such rows are refused"
            )
    if found.texts:
        notes.append(f"taken as no value: {', '.join(repr(text) for text in found.texts)}")
    if found.sample.n_broken:
        notes.append(f"{found.sample.n_broken:,} lines do not have the header's columns")
    return notes


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
