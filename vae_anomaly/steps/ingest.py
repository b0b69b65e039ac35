"""Files or a table of the source → readings, quarantine and `files`, each row exactly once.

A pull from a database stands in `files` like a file: its path is the table's address, its number
takes the place of a time, and its highest watermark is where the next pull goes on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from vae_anomaly.config import Database, PlantConfig, settings_digest
from vae_anomaly.data.clocks import FileClock, OrderReport
from vae_anomaly.data.contract import check_batch, check_header
from vae_anomaly.data.databases import Watermark, lower_bound, place_of, read_table
from vae_anomaly.data.lake import (
    FILES,
    QUARANTINE,
    READINGS,
    Lake,
    commit,
    rows,
    until_committed,
)
from vae_anomaly.data.landing import CHUNK_ROWS, LONG_CHUNK_ROWS, Counts, land
from vae_anomaly.data.layout import Shaped, refuse_other_layout, shape
from vae_anomaly.data.quality import CellCounts
from vae_anomaly.data.sources import (
    SourceFile,
    asset_stem,
    content_digest,
    list_files,
    read_batches,
    reading_of,
    still_growing,
)
from vae_anomaly.errors import ContractError, LakeError, SourceError

__all__ = ["FileReport", "IngestReport", "ingest"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    `status` is one of *ingested*; *repeated* (this very content was read from another path);
    *quarantined* (it cannot be read, or not to its end: `reason` says why and from which row);
    *unchanged* (same path, size, time and contract as before: not read again); *growing* (it
    changed while it was watched: left for the next ingest). `is_passing` holds where the file
    system refused: such a file is tried again next time. `cells` says what became of every cell of
    every sensor in the rows that were read; `order`, which rows lie before earlier ones.
    """

    path: str
    status: str
    counts: Counts = field(default_factory=Counts)
    reason: str | None = None
    is_passing: bool = False
    cells: CellCounts = field(default_factory=Counter)
    order: OrderReport = field(default_factory=OrderReport)


@dataclass(frozen=True)
class IngestReport:
    """Counts of one ingest; they add up to the rows that were read.

    `shaped` says what readings were formed, where they are formed from samples.
    """

    files: tuple[FileReport, ...]
    reasons: Mapping[str, int] = field(default_factory=dict)
    readings_version: int = 0
    shaped: Shaped | None = None

    @property
    def counts(self) -> Counts:
        return sum((report.counts for report in self.files), Counts())

    @property
    def cells(self) -> CellCounts:
        """What became of every cell of the rows that were read."""
        return sum((report.cells for report in self.files), Counter())

    def with_status(self, status: str) -> tuple[FileReport, ...]:
        return tuple(report for report in self.files if report.status == status)


def ingest(
    plant: PlantConfig, *, on_file: Callable[[FileReport, int], None] = lambda report, n: None
) -> IngestReport:
    """Read what is new in the source into the lake.

    Parameters
    ----------
    plant : PlantConfig
        Names the source, the contract and the lake.
    on_file : callable, optional
        Called after each file with its report and the number of files in all.

    Returns
    -------
    IngestReport
        One report a file; the counts add up.

    Raises
    ------
    SourceError
        Nothing lies where the source points.
    LakeError
        The lake is of a newer version, or its counts contradict each other.
    """
    lake = Lake(plant.lake_path, plant.contract)
    refuse_other_layout(lake)
    lake.writable(READINGS)
    if plant.source.database is not None:
        report = _pull(lake, plant, plant.source.database, on_file)
    else:
        report = _read_files(lake, plant, on_file)
    shaped = shape(lake) if plant.contract.is_shaped else None
    return replace(report, shaped=shaped, readings_version=lake.open(READINGS).version())


def _read_files(
    lake: Lake, plant: PlantConfig, on_file: Callable[[FileReport, int], None]
) -> IngestReport:
    """Land what is new in the files of the source."""
    files = [f for f in list_files(plant.source) if lake.root not in Path(f.path).parents]
    known = Known.of(lake, settings_digest(plant.contract, _dialect(plant)))
    growing = still_growing((f for f in files if not known.is_unchanged(f)), plant.source)
    reports: list[FileReport] = []
    reasons: Counter[str] = Counter()
    for file in files:
        report = FileReport(file.path, "unchanged", reason=known.reason(file))
        if file.path in growing:
            reason = "it is still being written, and left for the next ingest"
            report = FileReport(file.path, "growing", reason=reason)
        elif not known.is_unchanged(file):
            report = _ingest_file(lake, plant, file, known)
            reasons.update(_reasons(lake, known.contents.get(file.path, ""), report))
            logger.info("%s: %s %s", file.path, report.status, report.counts)
        reports.append(report)
        on_file(report, len(files))
    return IngestReport(tuple(reports), dict(reasons))


def _pull(
    lake: Lake,
    plant: PlantConfig,
    database: Database,
    on_file: Callable[[FileReport, int], None],
) -> IngestReport:
    """Read a table on from its last watermark.

    A pull that was killed begins again under the same content id, so its rows are its own.
    """
    place, digest = place_of(database), settings_digest(plant.contract)
    before = _last_pull(lake, place, digest)
    lower = lower_bound(before.watermark, database.overlap)
    content_id = settings_digest(place, digest, lower, before.n_pulls)[:32]
    seen = Watermark(before.watermark)
    batches = read_table(
        database, plant.contract, lower=lower, batch_rows=_batch_rows(plant), seen=seen
    )
    name = database.table.rpartition(".")[2].strip('"')
    report = _land(lake, plant, batches, place, name, content_id, comes_again=True)
    if report.status == "quarantined":  # a table that cannot be read is no dirty file
        raise SourceError(report.reason)
    if not report.counts.complete:
        raise LakeError(f"{place}: the counts do not add up to the rows read: {report.counts}")
    reports = [report]
    as_file = SourceFile(place, 0, before.n_pulls)
    until_committed(lambda: _remember(lake, as_file, digest, content_id, reports, seen.text))
    logger.info("%s: %s, watermark %s", place, report.counts, seen.text or "none")
    on_file(reports[0], 1)
    reasons = _reasons(lake, content_id, reports[0], exact=False)
    return IngestReport(tuple(reports), dict(reasons))


@dataclass(frozen=True)
class _Pulls:
    """How many pulls of a table were done, and how far the last one came."""

    n_pulls: int
    watermark: str


def _last_pull(lake: Lake, place: str, digest: str) -> _Pulls:
    """Pulls under this contract: another one reads the table from its begin."""
    numbers: dict[int, str] = {}
    where = (pc.field("path") == place) & (pc.field("contract_digest") == digest)
    columns = ["modified_ns", "watermark", "status"]
    for batch in rows(lake.writable(FILES), columns=columns, where=where):
        for row in batch.to_pylist():
            if row["status"] == "ingested":
                numbers[row["modified_ns"]] = row["watermark"] or ""
    return _Pulls(len(numbers), numbers[max(numbers)] if numbers else "")


@dataclass
class Known:
    """What the table `files` remembers, so that an hourly run reads no file again."""

    digest: str
    unchanged: dict[tuple[str, int, int], str | None]  # and why it is quarantined
    done: dict[str, str]  # content id → path that it was first ingested from
    contents: dict[str, str] = field(default_factory=dict)  # path → content id, of this run

    @classmethod
    def of(cls, lake: Lake, digest: str) -> Known:
        known = cls(digest, {}, {})
        where = pc.field("contract_digest") == digest
        columns = ["path", "size", "modified_ns", "content_id", "status", "reason"]
        for batch in rows(lake.writable(FILES), columns=columns, where=where):
            for row in batch.to_pylist():
                key = (row["path"], row["size"], row["modified_ns"])
                known.unchanged[key] = row["reason"] if row["status"] == "quarantined" else None
                known.done.setdefault(row["content_id"], row["path"])
        return known

    def reason(self, file: SourceFile) -> str | None:
        """Why an unchanged file is quarantined."""
        return self.unchanged.get((file.path, file.size, file.modified_ns))

    def is_unchanged(self, file: SourceFile) -> bool:
        return (file.path, file.size, file.modified_ns) in self.unchanged


def _ingest_file(lake: Lake, plant: PlantConfig, file: SourceFile, known: Known) -> FileReport:
    stem = asset_stem(file.path)
    try:
        digest = content_digest(file, plant.source)
    except SourceError as error:  # nothing is known of its content, so it is tried again next time
        logger.warning("file quarantined: %s", error)
        return FileReport(file.path, "quarantined", reason=str(error))
    own_stem = stem if plant.contract.asset is None else ""
    reading = reading_of(file, plant.source)
    content_id = settings_digest(digest, known.digest, own_stem, reading)[:32]
    known.contents[file.path] = content_id
    if content_id in known.done:
        report = FileReport(file.path, "repeated", reason=f"same as {known.done[content_id]}")
    else:
        report = _land_file(lake, plant, file, content_id)
    if not report.counts.complete:
        raise LakeError(f"{file.path}: the counts do not add up to the rows read: {report.counts}")
    if not report.is_passing:
        remembered = [report]
        until_committed(lambda: _remember(lake, file, known.digest, content_id, remembered))
        report = remembered[0]
        known.done.setdefault(content_id, file.path)
    return report


def _batch_rows(plant: PlantConfig) -> int:
    return CHUNK_ROWS if plant.contract.long is None else LONG_CHUNK_ROWS


def _land_file(lake: Lake, plant: PlantConfig, file: SourceFile, content_id: str) -> FileReport:
    batches = read_batches(file, plant.source, batch_rows=_batch_rows(plant))
    return _land(lake, plant, batches, file.path, asset_stem(file.path), content_id)


def _land(
    lake: Lake,
    plant: PlantConfig,
    batches: Iterator[pa.RecordBatch],
    path: str,
    asset: str,
    content_id: str,
    *,
    comes_again: bool = False,
) -> FileReport:
    """Check and land batches one by one; what ends them is the report's reason."""
    counts, cells, checked_header = Counts(), CellCounts(), False
    clock = FileClock(plant.contract.sampling.period_s or 0.0)
    try:
        for batch in batches:
            if not checked_header:
                check_header([n for n in batch.schema.names if n not in _OWN], plant.contract)
                checked_header = True
            if not batch.num_rows:
                continue
            checked = check_batch(
                batch, plant.contract, asset=asset, decimal=plant.source.decimal, clock=clock
            )
            cells += checked.cells
            last_row = batch["_row"][-1].as_py()
            counts += land(
                lake,
                checked,
                content_id=content_id,
                path=path,
                last_row=last_row,
                comes_again=comes_again,
            )
    except (SourceError, ContractError) as error:
        logger.warning("file quarantined: %s", error)
        passing = _is_passing(error)
        return FileReport(path, "quarantined", counts, str(error), passing, cells, clock.order)
    return FileReport(path, "ingested", counts, cells=cells, order=clock.order)


_OWN = ("_row", "_broken")


def _is_passing(error: BaseException | None) -> bool:
    """Whether the system or the installation was at fault, and not the file."""
    while error is not None:
        # a damaged file is an OSError too, but not one of the system's
        if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno):
            return True
        error = error.__cause__
    return False


def _remember(
    lake: Lake,
    file: SourceFile,
    digest: str,
    content_id: str,
    reports: list[FileReport],
    watermark: str | None = None,
) -> bool:
    """Note a file; where a rival has noted its content first, it is a repetition after all."""
    table = lake.writable(FILES)
    entry = settings_digest(file.path, file.size, file.modified_ns, content_id)
    if table.transaction_version(entry) is not None:
        return True
    report, transactions = reports[0], {entry: 1}
    if report.status != "repeated":
        if table.transaction_version(content_id) is not None:
            report = FileReport(file.path, "repeated", reason="the same content, at the same time")
            reports[0] = report
        else:
            transactions[content_id] = 1
    row = {
        "path": file.path,
        "size": file.size,
        "modified_ns": file.modified_ns,
        "contract_digest": digest,
        "content_id": content_id,
        "status": report.status,
        "reason": report.reason,
        "n_read": report.counts.n_read,
        "n_accepted": report.counts.n_accepted,
        "n_quarantined": report.counts.n_quarantined,
        "n_duplicate": report.counts.n_duplicate,
        "cells": [{**cell._asdict(), "n": n} for cell, n in report.cells.items()],
        "n_out_of_order": report.order.n_out_of_order,
        "largest_step_back_s": report.order.largest_step_back_s,
        "watermark": watermark,
        "ingested_at": datetime.now(UTC),
    }
    return commit(table, pa.Table.from_pylist([row], schema=lake.schema(FILES)), transactions)


def _reasons(
    lake: Lake, content_id: str, report: FileReport, *, exact: bool = True
) -> Counter[str]:
    """Rows of a file in the quarantine, by reason; they are as many as were counted.

    Of a pull that began anew they may be more: rows that came in meanwhile shift its numbers.
    """
    reasons: Counter[str] = Counter()
    if report.counts.n_quarantined:
        where = pc.field("content_id") == content_id
        for batch in rows(lake.open(QUARANTINE), columns=["reason"], where=where):
            reasons.update(batch["reason"].to_pylist())
        # a passing fault may have come earlier in the file than on the attempt before
        is_whole = reasons.total() == report.counts.n_quarantined
        is_whole |= not exact and reasons.total() > report.counts.n_quarantined
        if not is_whole and not report.is_passing:
            raise LakeError(
                f"{report.path}: {report.counts.n_quarantined} rows were refused, but the "
                f"quarantine holds {reasons.total()} of this content"
            )
    return reasons


def _dialect(plant: PlantConfig) -> JsonValue:
    names = {"format", "delimiter", "decimal", "encoding", "skip_lines", "header", "sheet"}
    dialect: JsonValue = plant.source.model_dump(mode="json", include=names)
    return dialect
