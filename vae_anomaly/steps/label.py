"""What people say of alarms → the table `labels`, one by one or from a file."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import READINGS, Lake, rows
from vae_anomaly.data.times import moment_of
from vae_anomaly.errors import InputError, SourceError, closest
from vae_anomaly.steps.label_file import LabelRow, read_label_file, verdict_of
from vae_anomaly.steps.said import (
    FAILURE,
    FALSE_ALARM,
    FAULT,
    Alarm,
    Said,
    Verdict,
    append,
    content_id,
    holding,
    raised_alarms,
)
from vae_anomaly.table import Table

__all__ = [
    "LabelReport",
    "alarm_named",
    "import_labels",
    "label_alarms",
    "label_failure",
    "label_table",
]

#: Alarms that a message names where an id is not known.
N_NAMED = 3

#: What becomes of what people say.
BECOMES: dict[frozenset[Verdict], str] = {
    frozenset({FAULT, FALSE_ALARM}): (
        "`vae-anomaly recalibrate` sets the threshold by faults and false alarms at once; the next "
        "training learns from them"
    ),
    frozenset({"maintenance", "unknown"}): (
        "rows of maintenance, or of which nobody knows what they are, are not learnt from"
    ),
    frozenset({FAILURE}): (
        "`vae-anomaly alarms` tells how long before a failure its alarm was raised; `recalibrate` "
        "counts no failure as a fault: label the alarm that stood for it"
    ),
}


@dataclass(frozen=True)
class LabelReport:
    """What was written, and how many entries had been said in the same words before."""

    written: tuple[Said, ...]
    n_known: int


def label_alarms(
    plant: PlantConfig,
    alarm_ids: Sequence[str],
    verdict: str,
    *,
    fault: str = "",
    who: str = "",
    comment: str = "",
) -> LabelReport:
    """Say of alarms what they were; what was said before is kept, and holds no longer.

    Parameters
    ----------
    plant : PlantConfig
    alarm_ids : sequence of str
        Ids, or beginnings that only one alarm has.
    verdict : str
        ``fault``, ``false_alarm``, ``maintenance`` or ``unknown``.
    fault : str, optional
        Name of the fault.
    who : str, optional
        Who says so; the login name by default.
    comment : str, optional

    Raises
    ------
    InputError
        An id is not known, or begins more than one; or the verdict is none.
    """
    try:
        meant = verdict_of(verdict, fault)
    except ValueError as error:
        raise InputError(str(error)) from error
    if meant == FAILURE:
        raise InputError("a failure is of an asset at a moment, not of an alarm; say both of them")
    lake = Lake(plant.lake, plant.contract)
    known = raised_alarms(lake)
    alarms = {alarm.alarm_id: alarm for alarm in (alarm_named(known, text) for text in alarm_ids)}
    speaker = who or _login_name()
    entries = [
        Said(a.asset, a.start, a.end, meant, name, fault or None, speaker, comment)
        for name, a in alarms.items()
    ]

    return _told(lake, entries)


def label_failure(
    plant: PlantConfig, asset: str, at: str, *, fault: str = "", who: str = "", comment: str = ""
) -> LabelReport:
    """Say when a machine failed; `alarms` tells from then on how early its alarms were.

    Parameters
    ----------
    plant : PlantConfig
    asset : str
    at : str
        A time in ISO 8601; without a zone of its own in the contract's.
    fault : str, optional
        Name of what failed.
    who : str, optional
        Who says so; the login name by default.
    comment : str, optional

    Raises
    ------
    InputError
        The asset is not known, or the text is no time.
    """
    lake = Lake(plant.lake, plant.contract)
    if asset not in (assets := _assets(lake)):
        given = f"asset '{asset}' is not known" if asset else "no asset is named"
        raise InputError(f"{given}; {closest(asset, assets)}")
    moment = moment_of(at, plant.contract.time.zone)
    speaker = who or _login_name()
    entry = Said(asset, moment, moment, FAILURE, None, fault or None, speaker, comment)
    return _told(lake, [entry])


def _told(lake: Lake, entries: Sequence[Said]) -> LabelReport:
    """Write the entries that do not hold already in the same words."""

    def unsaid(before: Sequence[Said]) -> list[Said]:
        last = {entry.about: _words(entry) for entry in holding(before)}
        return [entry for entry in entries if last.get(entry.about) != _words(entry)]

    written = append(lake, unsaid)
    return LabelReport(written, len(entries) - len(written))


def import_labels(
    plant: PlantConfig, path: str | Path, *, asset: str = "", who: str = ""
) -> LabelReport:
    """Take in a file of labels; the same file again adds nothing.

    Parameters
    ----------
    plant : PlantConfig
    path : str or Path
        A CSV file as `label_file.read_label_file` describes it.
    asset : str, optional
        Of spans that name none.
    who : str, optional
        Who said what no row has a name for; the login name by default.

    Raises
    ------
    SourceError
        A row says nothing clear; then none is taken in.
    """
    path = Path(path)
    lake = Lake(plant.lake, plant.contract)
    found = read_label_file(path, assets=_assets(lake), asset=asset, zone=plant.contract.time.zone)
    known = raised_alarms(lake) if any(row.alarm_id for row in found) else {}
    speaker = who or _login_name()
    entries = {e.label_id: e for e in (_said(row, known, speaker, path) for row in found)}

    def unread(before: Sequence[Said]) -> list[Said]:
        read = {entry.label_id for entry in before}
        return [entry for name, entry in entries.items() if name not in read]

    written = append(lake, unread)
    return LabelReport(written, len(found) - len(written))


def alarm_named(known: Mapping[str, Alarm], text: str) -> Alarm:
    """The one alarm whose id begins so.

    Raises
    ------
    InputError
        None does, or several do; the message names some.
    """
    own = [known[text]] if text in known else [a for i, a in known.items() if i.startswith(text)]
    if len(own) == 1 and text:
        return own[0]
    if own and text:
        names = ", ".join(sorted(a.alarm_id for a in own)[:N_NAMED])
        raise InputError(
            f"{len(own)} alarms begin with '{text}': {names}{' …' * (len(own) > N_NAMED)}; "
            "give more digits"
        )
    latest = sorted(known.values(), key=lambda a: -a.start)[:N_NAMED]
    near = closest(text, known)
    hint = (
        near
        if near.startswith("did")
        else "the latest are " + ", ".join(a.alarm_id for a in latest)
    )
    raise InputError(f"no alarm has the id '{text}'; {hint}. `vae-anomaly alarms` lists them")


def _said(row: LabelRow, known: Mapping[str, Alarm], speaker: str, path: Path) -> Said:
    told = (row.fault or None, row.who or speaker, row.comment)
    # what the file says, and not who read it in: so the same file again is known
    words = (row.verdict, row.fault, row.who, row.comment)
    if row.alarm_id:
        try:
            a = alarm_named(known, row.alarm_id)
        except InputError as error:
            raise SourceError(f"{path}, row {row.number}: {error}") from error
        name = content_id(a.alarm_id, *words)
        return Said(a.asset, a.start, a.end, row.verdict, a.alarm_id, *told, label_id=name)
    assert row.start is not None
    assert row.end is not None  # the file's reader saw to both
    name = content_id(row.asset, row.start, row.end, *words)
    return Said(row.asset, row.start, row.end, row.verdict, None, *told, label_id=name)


def _words(entry: Said) -> tuple[str | None, ...]:
    return entry.verdict, entry.fault, entry.who, entry.comment


def _assets(lake: Lake) -> list[str]:
    found: set[str] = set()
    for batch in rows(lake.open(READINGS), columns=["asset"]):
        found.update(pc.unique(batch["asset"]).to_pylist())
    return sorted(found)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError) as error:
        raise InputError("this process has no login name; say who with --who") from error


def _what(entry: Said) -> str:
    return entry.alarm_id or ("span" if entry.end > entry.start else "moment")


def label_table(report: LabelReport) -> Table:
    """What was said, one entry a line."""
    n = len(report.written)
    summary = f"{n} label{'' if n == 1 else 's'} written"
    summary += f"; {report.n_known} had been said before." if report.n_known else "."
    lines = tuple(
        (
            _what(entry),
            entry.asset,
            entry.in_words(),
            entry.who,
            entry.comment,
        )
        for entry in report.written
    )
    said = {entry.verdict for entry in report.written}
    notes = tuple(note for verdicts, note in BECOMES.items() if said & verdicts)
    columns = ("alarm", "asset", "said", "who", "comment")
    return Table("Labels", summary, columns, lines, notes, ("said", "comment"))
