"""The tables of a lake where they lie: opened, read and written on this machine or in a bucket.

Credentials and endpoint of a store come from the standard variables (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``). The store has to refuse a write
of an object that exists already (conditional put, ``If-None-Match``): that alone makes one of two
commits at once the first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from vae_anomaly.config import is_bucket
from vae_anomaly.errors import LakeError

__all__ = ["answering", "storage_options", "table_files", "table_uri"]

#: How Delta and pyarrow begin what a store says, and what it says of a key that it does not take.
OF_A_STORE = re.compile(r"S3 error|AWS Error|loading credentials|no credentials found")
REFUSED = re.compile(
    r"loading credentials|no credentials found|"
    r"access_?denied|invalid_?access_?key|signature|40[13] (Unauth|Forbid)",
    re.IGNORECASE,
)


def table_uri(place: str | Path, name: str) -> str:
    """URI of a table of a lake.

    Examples
    --------
    >>> table_uri("s3://bucket/pumps", "readings")
    's3://bucket/pumps/readings'
    >>> table_uri("/data/my lake", "readings")
    'file:///data/my%20lake/readings'
    """
    return f"{place}/{name}" if is_bucket(place) else (Path(place) / name).absolute().as_uri()


def storage_options(place: str | Path) -> dict[str, str] | None:
    """What Delta has to be told of a lake's store, beside what it reads in the environment."""
    if not is_bucket(place):
        return None
    options = {"aws_conditional_put": "etag"}
    if _endpoint().startswith("http://"):  # said so by whoever set it
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def table_files(uri: str) -> pafs.FileSystem:
    """Files of a table, on a native file system: with Delta's own, processes end in an abort."""
    place = urlsplit(uri)
    folder = unquote(place.path).rstrip("/")
    if place.scheme != "s3":
        return pafs.SubTreeFileSystem(folder, pafs.LocalFileSystem())
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    return pafs.SubTreeFileSystem(f"{place.netloc}{folder}", _store(_endpoint(), region))


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL", "")


@lru_cache(maxsize=4)
def _store(endpoint: str, region: str) -> pafs.S3FileSystem:
    """A client of a store; to make one takes longer than to use it."""
    return pafs.S3FileSystem(endpoint_override=endpoint or None, region=region or None)


@contextmanager
def answering(place: str | Path) -> Iterator[None]:
    """Turn what a store says when it fails into what can be done about it.

    Raises
    ------
    LakeError
        The store does not answer, refuses the credentials, or has no such bucket.
    """
    try:
        yield
    except (FileNotFoundError, CommitFailedError, TableNotFoundError):
        raise
    except (OSError, DeltaError) as error:
        if not is_bucket(place) or not OF_A_STORE.search(str(error)):
            raise
        bucket = urlsplit(str(place)).netloc
        raise LakeError(
            f"the store of {place} {_failure(str(error), bucket)} It was said: {_plain(error)}"
        ) from error


def _failure(said: str, bucket: str) -> str:
    if "NoSuchBucket" in said:
        return f"has no bucket '{bucket}'; make it there, or correct lake in plant.yml."
    if REFUSED.search(said):
        return (
            "refuses the credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key "
            f"that may list, read, write and delete in '{bucket}'."
        )
    where = _endpoint() or "Amazon S3"
    return (
        f"does not answer at {where}; set AWS_ENDPOINT_URL and AWS_REGION, or run the same command "
        "again later: nothing is lost."
    )


def _plain(error: Exception) -> str:
    """Its words in one line, without colours."""
    text = str(error).replace("\x1b[31m", "").replace("\x1b[0m", "")
    return " ".join(text.replace("↳", "–").split())[:400]
