"""Where the tables of a lake lie: in a folder of this machine, or in a bucket of a store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vae_anomaly.errors import ConfigError

__all__ = ["is_bucket", "lake_place", "work_place"]

#: A bucket and folders in it, of characters that no URL has to escape.
BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=-][A-Za-z0-9_=.-]*)*")


def is_bucket(place: str | Path) -> bool:
    """Whether a lake lies in a store, and not on this machine.

    Examples
    --------
    >>> is_bucket("s3://bucket/pumps"), is_bucket("/data/lake/pumps")
    (True, False)
    """
    return str(place).startswith("s3://")


def lake_place(lake: str, file: Path) -> str:
    """The place of a lake: an absolute path, or a URL without secrets.

    Parameters
    ----------
    lake : str
        What the plant file says.
    file : Path
        The plant file; paths are relative to its folder.

    Raises
    ------
    ConfigError
        The URL is of another store, or says more than bucket and folder; the path has a character
        that Delta's tables cannot have.

    Examples
    --------
    >>> lake_place("s3://bucket/pumps/", Path("/plants/plant.yml"))
    's3://bucket/pumps'
    >>> lake_place("lakes/a", Path("/plants/plant.yml"))
    '/plants/lakes/a'
    """
    if "://" in lake:
        return _bucket_place(lake, file)
    place = file.parent / lake
    if unusable := set(str(place)) & set("[]%"):
        raise ConfigError(
            f"{file}: the lake {place} has {min(unusable)!r} in its path, which the tables cannot "
            "have; set lake to a folder without it"
        )
    return os.path.normpath(place)


def _bucket_place(url: str, file: Path) -> str:
    """A bucket and a folder in it; what may be a secret is not repeated."""
    scheme = url.partition("://")[0]
    if scheme != "s3":
        raise ConfigError(
            f"{file}: lake: '{scheme}://…' is no place for a lake; give a folder of this machine, "
            "or s3://bucket/folder in an S3-compatible store"
        )
    if set(url) & set("@?#"):
        raise ConfigError(
            f"{file}: lake: 's3://…' has a user, a query or a fragment; write s3://bucket/folder, "
            "and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, if the store is "
            "not Amazon's, AWS_ENDPOINT_URL"
        )
    place = url.rstrip("/")
    if not BUCKET.fullmatch(place):
        raise ConfigError(
            f"{file}: lake: '{url}' is no bucket and folder; a bucket has 3 to 63 of a-z, 0-9, '.' "
            "and '-', a folder letters, digits, '_', '-', '=' and '.', which is not its first"
        )
    return place


def work_place(work: str, lake: str, *, name: str, file: Path) -> str:
    """The folder of this machine for what is not in the tables; empty where that is the lake.

    Raises
    ------
    ConfigError
        It is a URL.

    Examples
    --------
    >>> work_place("", "s3://bucket/pumps", name="pumps", file=Path("/plants/plant.yml"))
    '/plants/.vae-anomaly/pumps'
    """
    if "://" in work:
        scheme = work.partition("://")[0]
        raise ConfigError(
            f"{file}: work: '{scheme}://…' is no folder of this machine; give one: trainings that "
            "were cut and fetched packages lie there"
        )
    if not work and is_bucket(lake):
        work = f".vae-anomaly/{name}"
    return os.path.normpath(file.parent / work) if work else ""
