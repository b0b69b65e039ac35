"""What the table `files` remembers of files and pulls, and what an ingest reports of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from vae_anomaly.config import settings_digest
from vae_anomaly.data.clocks import OrderReport
from vae_anomaly.data.lake import (
    FILES,
    QUARANTINE,
    Lake,
    commit,
    rows,
    transaction_number,
)
from vae_anomaly.data.landing import Counts
from vae_anomaly.data.layout import Shaped
from vae_anomaly.data.quality import CellCounts
from vae_anomaly.data.sources import SourceFile
from vae_anomaly.errors import LakeError

__all__ = [
    "FileReport",
    "IngestReport",
    "Known",
    "Pulls",
    "last_pull",
    "reasons_of",
    "remember",
]


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    `status` is one of *ingested*; *repeated* (this very content was read from another path);
    *quarantined* (it cannot be read, or not to its end: `reason` says why and from which row);
    *unchanged* (same path, size, time and contract as before: not read again); *growing* (it
    changed while it was watched: left for the next ingest). Of an ingested file `reason` says how
    many rows lie after now. `is_passing` holds where the file system refused: such a file is tried
    again next time. `cells` says what became of every cell of every sensor in the rows that were
    read; `order`, which rows lie before earlier ones.
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


@dataclass(frozen=True)
class Pulls:
    """How many pulls of a table were done, and how far the last one came."""

    n_pulls: int
    watermark: str


def last_pull(lake: Lake, place: str, digest: str) -> Pulls:
    """Pulls under this contract: another one reads the table from its begin."""
    numbers: dict[int, str] = {}
    where = (pc.field("path") == place) & (pc.field("contract_digest") == digest)
    columns = ["modified_ns", "watermark", "status"]
    for batch in rows(lake.writable(FILES), columns=columns, where=where):
        for row in batch.to_pylist():
            if row["status"] == "ingested":
                numbers[row["modified_ns"]] = row["watermark"] or ""
    return Pulls(len(numbers), numbers[max(numbers)] if numbers else "")


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


def remember(
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
    if transaction_number(table, entry) is not None:
        return True
    report, transactions = reports[0], {entry: 1}
    if report.status != "repeated":
        if transaction_number(table, content_id) is not None:
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


def reasons_of(
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
