"""Files or a table of the source → readings, quarantine and `files`, each row exactly once.

A pull from a database stands in `files` like a file: its path is the table's address, its number
takes the place of a time, and its highest watermark is where the next pull goes on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
from pydantic import JsonValue

from vae_anomaly.config import Database, Limit, PlantConfig, settings_digest
from vae_anomaly.data.ahead import LOOK_AT, TIME_AHEAD
from vae_anomaly.data.clocks import FileClock
from vae_anomaly.data.contract import check_batch, check_header
from vae_anomaly.data.lake import (
    READINGS,
    Lake,
    until_committed,
)
from vae_anomaly.data.landing import CHUNK_ROWS, LONG_CHUNK_ROWS, Counts, land
from vae_anomaly.data.layout import refuse_other_layout, shape
from vae_anomaly.data.quality import CellCounts
from vae_anomaly.data.sources import (
    SourceFile,
    asset_of_file,
    content_digest,
    list_files,
    read_batches,
    reading_of,
    still_growing,
)
from vae_anomaly.data.sources.databases import (
    Watermark,
    asset_of,
    lower_bound,
    place_of,
    read_table,
)
from vae_anomaly.errors import ContractError, LakeError, SourceError
from vae_anomaly.steps.file_records import (
    FileReport,
    IngestReport,
    Known,
    last_pull,
    reasons_of,
    remember,
)

__all__ = ["ingest"]

logger = logging.getLogger(__name__)


def ingest(
    plant: PlantConfig,
    *,
    now: datetime | None = None,
    on_file: Callable[[FileReport, int], None] = lambda report, n: None,
) -> IngestReport:
    """Read what is new in the source into the lake.

    Parameters
    ----------
    plant : PlantConfig
        Names the source, the contract and the lake.
    now : datetime, optional
        The moment of this ingest, with its zone; a row far after it is refused. By default, now.
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
    lake = Lake(plant.lake, plant.contract)
    refuse_other_layout(lake)
    lake.writable(READINGS)
    limit = plant.source.limit(now or datetime.now(UTC))
    if plant.source.database is not None:
        report = _pull(lake, plant, plant.source.database, limit, on_file)
    else:
        report = _read_files(lake, plant, limit, on_file)
    shaped = shape(lake) if plant.contract.is_shaped else None
    return replace(report, shaped=shaped, readings_version=lake.open(READINGS).version())


def _read_files(
    lake: Lake,
    plant: PlantConfig,
    limit: Limit,
    on_file: Callable[[FileReport, int], None],
) -> IngestReport:
    """Land what is new in the files of the source."""
    files = [f for f in list_files(plant.source) if not plant.keeps(f.path)]
    known = Known.of(lake, _settings_digest(plant))
    growing = still_growing((f for f in files if not known.is_unchanged(f)), plant.source)
    reports: list[FileReport] = []
    reasons: Counter[str] = Counter()
    for file in files:
        report = FileReport(file.path, "unchanged", reason=known.reason(file))
        if file.path in growing:
            reason = "it is still being written, and left for the next ingest"
            report = FileReport(file.path, "growing", reason=reason)
        elif not known.is_unchanged(file):
            report = _ingest_file(lake, plant, file, known, limit)
            refused = reasons_of(lake, known.contents.get(file.path, ""), report)
            report = _with_ahead(report, refused[TIME_AHEAD])
            reasons.update(refused)
            logger.info("%s: %s %s", file.path, report.status, report.counts)
        reports.append(report)
        on_file(report, len(files))
    return IngestReport(tuple(reports), dict(reasons))


def _pull(
    lake: Lake,
    plant: PlantConfig,
    database: Database,
    limit: Limit,
    on_file: Callable[[FileReport, int], None],
) -> IngestReport:
    """Read a table on from its last watermark.

    A pull that was killed begins again under the same content id, so its rows are its own.
    """
    place, digest = place_of(database), _settings_digest(plant)
    before = last_pull(lake, place, digest)
    lower = lower_bound(before.watermark, database.overlap)
    content_id = settings_digest(place, digest, lower, before.n_pulls)[:32]
    # rows after now come again: behind their mark true ones would not be found
    seen = Watermark(before.watermark, limit.now)
    batches = read_table(
        database, plant.contract, lower=lower, batch_rows=_batch_rows(plant), seen=seen
    )
    asset = asset_of(database, plant.contract)
    report = _land(lake, plant, batches, place, asset, content_id, limit, comes_again=True)
    if not report.counts.complete:
        raise LakeError(f"{place}: the counts do not add up to the rows read: {report.counts}")
    reports = [report]
    as_file = SourceFile(place, 0, before.n_pulls)
    until_committed(lambda: remember(lake, as_file, digest, content_id, reports, seen.text))
    logger.info("%s: %s, watermark %s", place, report.counts, seen.text or "none")
    reasons = reasons_of(lake, content_id, reports[0], exact=False)
    report = _with_ahead(reports[0], reasons[TIME_AHEAD])
    on_file(report, 1)
    return IngestReport((report,), dict(reasons))


def _with_ahead(report: FileReport, n_ahead: int) -> FileReport:
    """The report, with a word on rows that lie after now; the louder if they are all of them."""
    if not n_ahead or report.status == "quarantined":
        return report
    n_read = report.counts.n_read
    which = "all" if n_ahead == n_read else f"{n_ahead:,} of"
    reason = (
        f"{which} {n_read:,} rows lie after now, or did when first read, and are refused; {LOOK_AT}"
    )
    logger.warning("%s: %s", report.path, reason)
    return replace(report, reason=reason)


def _ingest_file(
    lake: Lake, plant: PlantConfig, file: SourceFile, known: Known, limit: Limit
) -> FileReport:
    try:
        digest = content_digest(file, plant.source)
    except SourceError as error:  # nothing is known of its content, so it is tried again next time
        logger.warning("file quarantined: %s", error)
        return FileReport(file.path, "quarantined", reason=str(error))
    asset, unnamed = _asset_of(file, plant)
    reading = reading_of(file, plant.source)
    content_id = settings_digest(digest, known.digest, unnamed or asset, reading)[:32]
    known.contents[file.path] = content_id
    if content_id in known.done:
        report = FileReport(file.path, "repeated", reason=f"same as {known.done[content_id]}")
    elif unnamed:
        logger.warning("file quarantined: %s", unnamed)
        report = FileReport(file.path, "quarantined", reason=unnamed)
    else:
        batches = read_batches(file, plant.source, batch_rows=_batch_rows(plant))
        report = _land(lake, plant, batches, file.path, asset, content_id, limit)
    if not report.counts.complete:
        raise LakeError(f"{file.path}: the counts do not add up to the rows read: {report.counts}")
    if not report.is_passing:
        remembered = [report]
        until_committed(lambda: remember(lake, file, known.digest, content_id, remembered))
        report = remembered[0]
        known.done.setdefault(content_id, file.path)
    return report


def _asset_of(file: SourceFile, plant: PlantConfig) -> tuple[str, str]:
    """The asset that a file's name gives its rows, and why it gives none where it should."""
    try:
        return asset_of_file(file.path, plant.contract), ""
    except ContractError as error:
        return "", str(error)


def _batch_rows(plant: PlantConfig) -> int:
    return CHUNK_ROWS if plant.contract.long is None else LONG_CHUNK_ROWS


def _land(
    lake: Lake,
    plant: PlantConfig,
    batches: Iterator[pa.RecordBatch],
    path: str,
    asset: str,
    content_id: str,
    limit: Limit,
    *,
    comes_again: bool = False,
) -> FileReport:
    """Check and land batches one by one; what ends a file is the report's reason."""
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
                limit=limit,
                comes_again=comes_again,
            )
    except (SourceError, ContractError) as error:
        if comes_again:  # a table that cannot be read is no dirty file
            raise
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


def _settings_digest(plant: PlantConfig) -> str:
    """Of all that decides what becomes of a row: when it changes, the source is read anew."""
    names = {"format", "delimiter", "decimal", "encoding", "skip_lines", "header", "sheet"}
    dialect = plant.source.model_dump(mode="json", include=names)
    clock = plant.source.model_dump(mode="json", include={"max_ahead_s"}, exclude_defaults=True)
    parts: list[JsonValue] = [clock] if clock else []
    if plant.source.database is None:
        parts = [dialect | clock]
    return settings_digest(plant.contract, *parts)
