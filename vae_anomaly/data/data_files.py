"""The data files of a table: how they are written, and how many small ones become a few large ones.

A commit writes a file of its own, and to open a table, and to look for rows in it, takes time for
each file: of 183, 0.03 s and 0.3 s (measured). So what a plant needs for an hour would grow for as
long as it is watched.
"""

from __future__ import annotations

import logging

from deltalake import ColumnProperties, DeltaTable, WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from vae_anomaly.data.place import answering, storage_options
from vae_anomaly.data.schemas import SAMPLES
from vae_anomaly.errors import LakeError

__all__ = [
    "COMPACT_EVERY",
    "TARGET_FILE_SIZE",
    "compact",
    "compact_now_and_then",
    "writer_properties",
]

logger = logging.getLogger(__name__)

#: Bytes of one data file: larger ones made memory grow with the table (measured).
TARGET_FILE_SIZE = 32 * 2**20

#: Commits after which the small files of a table are put together, up to files of `SOME` bytes; and
#: those after which these become files of `TARGET_FILE_SIZE`. What is replaced stays on disk, so no
#: row may be written anew each time.
COMPACT_EVERY, COMPACT_ALL_EVERY, SOME = 50, 2_500, 2**20

#: Text repeats itself and gains from a dictionary; numbers do not (measured: half the file).
_DICTIONARY = (
    "asset", "mode", "content_id", "path", "reason", "status", "line", "model_version", "sensor",
    "text", "state",
)  # fmt: skip

#: Rows of a group of samples, which has statistics of its own: where a file has one tag after
#: another, a span of time is a few groups of each (measured: a third faster than groups of 65,536).
SAMPLES_GROUP = 16_384


def writer_properties(table: DeltaTable) -> WriterProperties:
    """How a table's data files are encoded."""
    texts = [field.name for field in table.schema().fields if field.name in _DICTIONARY]
    is_samples = table.metadata().name == f"vae_anomaly_{SAMPLES}"
    return WriterProperties(
        compression="SNAPPY",
        max_row_group_size=SAMPLES_GROUP if is_samples else None,
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={name: ColumnProperties(dictionary_enabled=True) for name in texts},
    )


def compact_now_and_then(uri: str, before: int, now: int) -> None:
    """Compact a table whose version rose from `before` to `now`, if it is time to."""
    if now // COMPACT_EVERY > before // COMPACT_EVERY:
        is_all = now // COMPACT_ALL_EVERY > before // COMPACT_ALL_EVERY
        compact(uri, target_size=TARGET_FILE_SIZE if is_all else SOME)


def compact(uri: str, *, target_size: int = TARGET_FILE_SIZE) -> None:
    """Put small files of a table together, and make a checkpoint of its log.

    Rows, transactions and the change feed stay as they are; the small files stay on disk for those
    who read an older version. What goes wrong is said and left for the next time: the rows are
    committed already.

    Parameters
    ----------
    uri : str
        Of the table.
    target_size : int
        Bytes from which on a file is large, and stays as it is.
    """
    try:
        with answering(uri):
            table = DeltaTable(uri, storage_options=storage_options(uri))
            done = table.optimize.compact(
                target_size=target_size, writer_properties=writer_properties(table)
            )
            table.create_checkpoint()
    except CommitFailedError as error:
        logger.debug("%s: another process committed meanwhile, so nothing is put together", error)
    except (DeltaError, LakeError, OSError) as error:
        logger.warning(
            "%s keeps its small files for %d more commits, since %s", uri, COMPACT_EVERY, error
        )
    else:
        logger.debug("%s: %d files became %d", uri, done["numFilesRemoved"], done["numFilesAdded"])
