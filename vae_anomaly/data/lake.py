"""The Delta tables of a plant: what they hold, and how rows get into them exactly once.

======== ============================================================= ==========================
table    one row is                                                    transaction
======== ============================================================= ==========================
readings an accepted row of a file                                     ``ingest`` n, and the
                                                                       content id: last row landed
quarant. a row that was refused, with its reason and its raw values    the content id: last row
files    a file that was read, with its counts                         the content id: 1
parts    a range of an asset's rows, and the part that it belongs to   –
verdicts what a model said of a reading                                the line: the version of
                                                                       readings scored through
alarms   rows of an asset over the threshold, from the first to the    the line: the version of
         last; a later end is an update of the same row                verdicts taken in
labels   what a person said of an alarm, or of a span of an asset;     ``said``: the number of the
         of two entries the one with the higher number holds           last entry
announc. a message to one block of the Prefect server; its state      ``announced``: raised by
         is an update of the same row                                  one with each change
drift    what one check said of a column of an asset in a window, or    ``drift:<package>``: the
         what was said of the asset, or of the plant (no asset)        number of the window
samples  an accepted row of a file, where readings are formed from     as of readings
         samples
======== ============================================================= ==========================

Readings that are formed from samples have the transactions ``ingest`` n, ``shaped:<asset>`` (the
moment through which they are formed, in microseconds since 1970) and those of `data.layout`.

A commit may carry notes, texts by name, that hold for what it wrote: `notes` reads them.

A transaction holds only when its number is read on the very table object that commits: `commit`
does both, and tells the caller to look again where another process was first.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import (
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from vae_anomaly.config import Contract, is_bucket
from vae_anomaly.data.data_files import (
    TARGET_FILE_SIZE,
    compact_now_and_then,
    writer_properties,
)
from vae_anomaly.data.place import answering, storage_options, table_files, table_uri
from vae_anomaly.data.schemas import (
    ALARMS,
    ANNOUNCEMENTS,
    DRIFT,
    FILES,
    LABELS,
    PARTS,
    PROMOTIONS,
    QUARANTINE,
    READINGS,
    SAMPLES,
    TABLES,
    VERDICTS,
    readings_schema,
    samples_schema,
)
from vae_anomaly.data.times import MOMENT
from vae_anomaly.errors import LakeError

__all__ = [
    "ALARMS",
    "ANNOUNCEMENTS",
    "DRIFT",
    "FILES",
    "INGEST",
    "LABELS",
    "OUT_OF_REACH",
    "PARTS",
    "PROMOTIONS",
    "QUARANTINE",
    "READINGS",
    "SAMPLES",
    "SCHEMA_VERSION",
    "VERDICTS",
    "Lake",
    "as_timestamp",
    "commit",
    "last_note",
    "merge",
    "new_rows",
    "notes",
    "rows",
    "rows_before",
    "transaction_number",
    "until_committed",
    "version_groups",
]

logger = logging.getLogger(__name__)

#: Transaction id that every landing raises by one: two at once cannot both be first.
INGEST: Final = "ingest"

#: Raised when a column changes its meaning; added columns need no new version.
SCHEMA_VERSION = 1

#: The change feed tells what is new; log and data stay as long as a plant may wait to be scored.
CONFIGURATION = {
    "delta.enableChangeDataFeed": "true",
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
}

#: To open a table takes two requests a commit since its checkpoint: of 47 commits 98, and so 29.
IN_BUCKET = {"delta.checkpointInterval": "10"}

#: Raised where a table cannot be read or written: a disk is full, a store is gone, a file damaged.
OUT_OF_REACH = (LakeError, OSError, DeltaError, pa.ArrowException)

#: The commands that make the tables that `ingest` does not.
MADE_BY = {VERDICTS: "score", ALARMS: "score", PARTS: "train", DRIFT: "monitor"}

#: How often a commit that met a rival looks again before it gives up.
MAX_TRIES = 60


@dataclass(frozen=True)
class Lake:
    """The tables of one plant, in one folder.

    Parameters
    ----------
    root : str or Path
        Folder of the tables, here or ``s3://bucket/…``; made when the first one is written.
    contract : Contract
        Names the columns of `readings`.
    """

    root: str | Path
    contract: Contract

    def schema(self, name: str) -> pa.Schema:
        """Columns that this version writes into a table."""
        if name == SAMPLES:
            return samples_schema(self.contract)
        return readings_schema(self.contract) if name == READINGS else TABLES[name]

    @property
    def landing(self) -> str:
        """The table in which accepted rows of files land."""
        return SAMPLES if self.contract.is_shaped else READINGS

    def open(self, name: str, *, version: int | None = None) -> DeltaTable:
        """Open a table as it stands, or as it stood at a version.

        Raises
        ------
        LakeError
            The table does not exist, or was written by a newer vae_anomaly.
        """
        table = self.found(name, version)
        if table is None:
            step = MADE_BY.get(name, "ingest") if self.found(READINGS) else "ingest"
            raise LakeError(
                f"{self.root} has no table '{name}'; run `vae-anomaly {step}` on this plant first"
            )
        self._refuse_later(name, table)
        return table

    def writable(self, name: str) -> DeltaTable:
        """Open a table to append to it; it is made, or given its new columns, where needed."""
        schema = self.schema(name)
        table = self.found(name)
        if table is None:
            until_committed(lambda: self.found(name) is not None or self._create(name, schema))
            table = self.open(name)
        self._refuse_later(name, table)
        if _lacking(table, schema):
            until_committed(lambda: _add_columns(self.open(name), schema))
            table = self.open(name)
        return table

    def _refuse_later(self, name: str, table: DeltaTable) -> None:
        written = _schema_version(table)
        if written > SCHEMA_VERSION:
            raise LakeError(
                f"table '{name}' in {self.root} has schema {written}, this version of vae_anomaly "
                f"knows up to {SCHEMA_VERSION}; install the version that wrote it, or a later one"
            )

    def found(self, name: str, version: int | None = None) -> DeltaTable | None:
        """The table, or None while there is none, or only its folder."""
        uri, options = table_uri(self.root, name), storage_options(self.root)
        try:
            with answering(self.root):
                return DeltaTable(uri, version=version, storage_options=options)
        except TableNotFoundError:
            return None

    def _create(self, name: str, schema: pa.Schema) -> bool:
        """Make a table; False where another process was first."""
        if not is_bucket(self.root):
            Path(self.root, name).mkdir(parents=True, exist_ok=True)
        try:
            with answering(self.root):
                DeltaTable.create(
                    table_uri(self.root, name),
                    schema=schema,
                    mode="error",
                    name=f"vae_anomaly_{name}",
                    description=f"vae_anomaly {name}, schema {SCHEMA_VERSION}",
                    configuration=CONFIGURATION | (IN_BUCKET if is_bucket(self.root) else {}),
                    storage_options=storage_options(self.root),
                )
        except (CommitFailedError, DeltaError) as error:
            if "already exists" not in str(error) and not isinstance(error, CommitFailedError):
                raise
            return False
        return True


def _lacking(table: DeltaTable, schema: pa.Schema) -> list[pa.Field]:
    """Columns that a table does not have yet."""
    known = {field.name for field in table.schema().fields}
    return [field for field in schema if field.name not in known]


def _add_columns(table: DeltaTable, schema: pa.Schema) -> bool:
    """Give a table the columns that it lacks; False where a rival changed it first."""
    lacking = _lacking(table, schema)
    if not lacking:
        return True
    last = transaction_number(table, INGEST) or 0
    since = [Transaction(f"column:{field.name}", last) for field in lacking]
    try:
        table.alter.add_columns(
            list(Schema.from_arrow(pa.schema(lacking)).fields),
            commit_properties=CommitProperties(app_transactions=since),
        )
    except CommitFailedError:
        return False
    if last:
        logger.warning(
            "%s gains %s: what lies in the table has no value of it; to read its history too, set "
            "lake in plant.yml to a new folder",
            table.metadata().name,
            ", ".join(f"'{field.name}'" for field in lacking),
        )
    return True


def rows_before(table: DeltaTable, column: str) -> int:
    """Highest `ingest` number of the rows that were there before a column was; 0 if none were."""
    return transaction_number(table, f"column:{column}") or 0


def _schema_version(table: DeltaTable) -> int:
    written = (table.metadata().description or "").rpartition("schema ")[2]
    return int(written) if written.isdigit() else SCHEMA_VERSION


def transaction_number(table: DeltaTable, name: str) -> int | None:
    """Number of a transaction as of the version that is open; None where nothing committed it.

    Parameters
    ----------
    table : DeltaTable
        The very object that is to commit the next one.
    name : str

    Raises
    ------
    LakeError
        The store does not answer: the number lies in the log, which is read for it.
    """
    with answering(table.table_uri):
        return table.transaction_version(name)


def commit(
    table: DeltaTable,
    data: pa.Table | pa.RecordBatchReader,
    transactions: Mapping[str, int],
    *,
    note: Mapping[str, str] | None = None,
) -> bool:
    """Append rows under transaction numbers, on the very object that the numbers were read on.

    Parameters
    ----------
    table : DeltaTable
        The object on which the caller read its numbers, and by which it decided what to write.
    data : pa.Table or pa.RecordBatchReader
        Rows to append; may be empty, when only the numbers move.
    transactions : mapping of str to int
        Number to record for each transaction id.
    note : mapping of str to str, optional
        Texts that hold for this commit; `notes` reads them.

    Returns
    -------
    bool
        False: another process committed one of these ids first, and nothing was written. Open the
        table again, decide again.
    """
    before = table.version()
    try:
        with answering(table.table_uri):
            write_deltalake(
                table,
                data,
                mode="append",
                commit_properties=_properties(transactions, note),
                target_file_size=TARGET_FILE_SIZE,
                writer_properties=writer_properties(table),
            )
    except CommitFailedError:
        return False
    compact_now_and_then(table.table_uri, before, table.version())
    return True


def merge(
    table: DeltaTable,
    data: pa.Table,
    key: str,
    transactions: Mapping[str, int],
    *,
    note: Mapping[str, str] | None = None,
) -> bool:
    """Replace the rows that have the keys of `data` and append the others, as `commit` does.

    Any commit in between makes it fail, one of another transaction too.
    """
    if not data.num_rows:
        return commit(table, data, transactions, note=note)
    before = table.version()
    merger = table.merge(
        data,
        f"old.{key} = new.{key}",
        source_alias="new",
        target_alias="old",
        commit_properties=_properties(transactions, note),
    )
    try:
        with answering(table.table_uri):
            merger.when_matched_update_all().when_not_matched_insert_all().execute()
    except CommitFailedError:
        return False
    compact_now_and_then(table.table_uri, before, table.version())
    return True


def _properties(
    transactions: Mapping[str, int], note: Mapping[str, str] | None
) -> CommitProperties:
    return CommitProperties(
        custom_metadata=dict(note or {}),
        app_transactions=[Transaction(name, number) for name, number in transactions.items()],
    )


def last_note(table: DeltaTable, name: str) -> str | None:
    """What the latest commit that notes something under a name notes; None if none does."""
    for version in range(table.version(), -1, -1):
        info = _commit_info(table, version)
        if name in info:
            return str(info[name])
    return None


def notes(table: DeltaTable, name: str, first: int = 0) -> dict[int, str]:
    """What the commits of a table note under a name, by version, from a version on."""
    found = {v: _commit_info(table, v) for v in range(first, table.version() + 1)}
    return {version: str(info[name]) for version, info in found.items() if name in info}


def _commit_info(table: DeltaTable, version: int) -> dict[str, Any]:
    """What the log says of one commit; nothing where its file is gone.

    `DeltaTable.history` reads the latest commits there are, numbers them back from the version that
    is open, and finds none under a path with a '#'.
    """
    file = f"_delta_log/{version:020d}.json"
    try:
        with answering(table.table_uri), table_files(table.table_uri).open_input_file(file) as log:
            text = log.read().decode()
    except FileNotFoundError:
        return {}
    actions = map(json.loads, text.splitlines())
    return next((action["commitInfo"] for action in actions if "commitInfo" in action), {})


def until_committed(attempt: Callable[[], bool]) -> None:
    """Call until it says that it committed, or found it done; waits a little longer each time.

    Raises
    ------
    LakeError
        Rivals were first every time.
    """
    jitter = random.Random()
    for tried in range(MAX_TRIES):
        if attempt():
            return
        time.sleep(jitter.uniform(0, min(0.5, 0.01 * 2**tried)))
    raise LakeError(
        f"another process committed first {MAX_TRIES} times in a row; run fewer at once, "
        "or the same command again: nothing is lost"
    )


def rows(
    table: DeltaTable,
    *,
    columns: list[str] | None = None,
    where: pads.Expression | None = None,
    batch_rows: int = 65_536,
) -> Iterator[pa.RecordBatch]:
    """Rows of a table, streamed; data files that `where` rules out are not opened."""
    scanner = dataset(table).scanner(
        columns=columns,
        filter=where,
        batch_size=batch_rows,
        batch_readahead=2,
        fragment_readahead=1,
    )
    with answering(table.table_uri):
        yield from (batch for batch in scanner.to_batches() if batch.num_rows)


def dataset(table: DeltaTable) -> pads.Dataset:
    """A table as an Arrow data set; on a native file system, which ends without an abort."""
    return table.to_pyarrow_dataset(filesystem=table_files(table.table_uri))


def as_timestamp(microseconds: int) -> pa.Scalar:
    """A time as the tables have it, from microseconds since 1970."""
    return pa.scalar(microseconds, MOMENT)


def version_groups(
    table: DeltaTable, first: int, last: int, *, max_rows: int
) -> Iterator[tuple[int, int]]:
    """Split the versions first..last into runs that add about `max_rows` rows each."""
    start, n_rows = first, 0
    for version in range(first, last + 1):
        metrics = _commit_info(table, version).get("operationMetrics", {})
        added = int(metrics.get("num_added_rows", 0))
        if n_rows and n_rows + added > max_rows:
            yield start, version - 1
            start, n_rows = version, 0
        n_rows += added
    yield start, last


def new_rows(table: DeltaTable, first: int, last: int) -> pa.Table:
    """Rows that the versions first..last of a table added, with ``_commit_version``.

    They come from the change feed, so compaction in between adds nothing.
    """
    with answering(table.table_uri):
        feed = pa.table(table.load_cdf(starting_version=first, ending_version=last).read_all())
    added = pc.equal(feed["_change_type"].cast(pa.string()), "insert")
    fields = [*pa.schema(table.schema().to_arrow()), pa.field("_commit_version", pa.int64())]
    # the feed hands out string views, which much of Arrow cannot compute on yet
    plain = pa.table({f.name: feed[f.name].cast(_plain(f.type)) for f in fields})
    return plain.filter(added)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The classic layout of a type that Delta hands out as a view."""
    return pa.string() if pa.types.is_string_view(kind) else kind
