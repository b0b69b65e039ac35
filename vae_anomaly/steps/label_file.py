"""What people said of alarms and spans, as CSV files: our own columns, or two columns of faults."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vae_anomaly.data.times import moment_of
from vae_anomaly.errors import InputError, SourceError, closest
from vae_anomaly.steps.said import FAILURE, FAULT, VERDICTS_OF_PEOPLE, Verdict

__all__ = ["LabelRow", "read_label_file", "verdict_of"]

#: Columns of our own files; `verdict` must be there, and an alarm or a span.
COLUMNS = ("alarm_id", "asset", "start", "end", "verdict", "fault", "who", "comment")


@dataclass(frozen=True)
class LabelRow:
    """A row of a file of labels; times in microseconds since 1970, None where an alarm is meant."""

    number: int
    verdict: Verdict
    alarm_id: str = ""
    asset: str = ""
    start: int | None = None
    end: int | None = None
    fault: str = ""
    who: str = ""
    comment: str = ""


def read_label_file(
    path: Path, *, assets: Collection[str], asset: str = "", zone: str = "UTC"
) -> list[LabelRow]:
    """Rows of a CSV file of labels; one bad row, and none is read.

    A file whose first line is two times has no header: its spans are faults, as Amazon Lookout for
    Equipment had them. Any other begins with the names of its columns.

    Parameters
    ----------
    path : Path
    assets : collection of str
        Names that the plant knows.
    asset : str, optional
        Of spans that name none; of a plant with one asset that one by default.
    zone : str, optional
        Of times that have none of their own.

    Raises
    ------
    SourceError
        The file cannot be read, or a row says nothing clear; the message names the row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = [
                (number, [cell.strip() for cell in row])
                for number, row in enumerate(csv.reader(file), start=1)
                if any(cell.strip() for cell in row)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    only = asset or (next(iter(assets)) if len(assets) == 1 else "")
    entries = _entries(path, cells)
    found = [
        _row(entry, only, assets, zone, f"{path}, row {number}", number)
        for number, entry in entries
    ]
    if not found:
        raise SourceError(f"{path} says nothing; give rows of {', '.join(COLUMNS)}")
    return found


def _entries(
    path: Path, cells: Sequence[tuple[int, list[str]]]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Each row by the names of its columns."""
    if not cells:
        return
    header = cells[0][1]
    is_spans = len(header) == 2 and all(map(_is_time, header))
    names = ["start", "end"] if is_spans else header
    for name in names:
        if name not in COLUMNS:
            raise SourceError(
                f"{path}: column '{name}' is not known; {closest(name, COLUMNS)}. Without a header "
                "a file has two columns of times, start and end of faults"
            )
    if not is_spans and "verdict" not in names:
        raise SourceError(f"{path}: column 'verdict' is missing; the columns are {names}")
    for number, row in cells[not is_spans :]:
        if len(row) != len(names):
            raise SourceError(
                f"{path}, row {number}: {len(row)} cells, and there are {len(names)} columns: "
                f"{', '.join(names)}"
            )
        yield (
            number,
            {**({"verdict": FAULT} if is_spans else {}), **dict(zip(names, row, strict=True))},
        )


def _row(
    entry: Mapping[str, str],
    asset: str,
    assets: Collection[str],
    zone: str,
    where: str,
    number: int,
) -> LabelRow:
    try:
        verdict = verdict_of(entry["verdict"], entry.get("fault", ""))
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from error
    row = LabelRow(
        number, verdict, alarm_id=entry.get("alarm_id", ""), fault=entry.get("fault", ""),
        who=entry.get("who", ""), comment=entry.get("comment", ""),
    )  # fmt: skip
    if row.alarm_id:
        if verdict == FAILURE:
            raise SourceError(
                f"{where}: a failure is of an asset at a moment, not of an alarm; give asset and "
                "start in place of alarm_id"
            )
        return row
    named = entry.get("asset") or asset
    if named not in assets:
        given = f"asset '{named}' is not known" if named else "no asset is named"
        raise SourceError(f"{where}: {given}; {closest(named, assets)}; or give --asset")
    cells = entry.get("start", ""), entry.get("end", "")
    if verdict == FAILURE and not cells[1]:
        cells = cells[0], cells[0]
    start, end = (_known_moment(cell, zone, where) for cell in cells)
    if start > end:
        raise SourceError(f"{where}: start {entry['start']} is behind end {entry['end']}")
    return replace(row, asset=named, start=start, end=end)


def verdict_of(text: str, fault: str = "") -> Verdict:
    """The verdict that a text means; ``false-alarm`` is ``false_alarm``.

    Raises
    ------
    ValueError
        It means none, or names a fault where there is said to be none.
    """
    verdict = text.lower().replace("-", "_").replace(" ", "_")
    for known in VERDICTS_OF_PEOPLE:
        if verdict == known:
            if fault and known not in (FAULT, FAILURE):
                raise ValueError(f"fault '{fault}' is named, but the verdict is '{text}'")
            return known
    raise ValueError(f"verdict '{text}' is not known; {closest(verdict, VERDICTS_OF_PEOPLE)}")


def _known_moment(cell: str, zone: str, where: str) -> int:
    try:
        return moment_of(cell, zone)
    except InputError as error:
        raise SourceError(
            f"{where}: {error}; a row has an alarm_id, or asset, start and end"
        ) from error


def _is_time(cell: str) -> bool:
    try:
        moment_of(cell, "UTC")
    except InputError:
        return False
    return True
