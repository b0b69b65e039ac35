"""Packages on this machine's disk: they outlive a registry that does not answer.

A package lies in ``<cache>/<digest>``; ``<cache>/champion.json`` says whose was the champion's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from vae_anomaly.errors import PackageError, RegistryError
from vae_anomaly.package_file import verify_package
from vae_anomaly.tracking.versions import DIGEST, Version

__all__ = ["cached_champion", "fetch", "note_champion"]

logger = logging.getLogger(__name__)

CHAMPION_FILE = "champion.json"


def fetch(version: Version, cache_dir: Path, download: Callable[[Path], Path]) -> Path:
    """Folder of a version's package, downloaded unless it lies there undamaged.

    It appears all at once or not at all.

    Parameters
    ----------
    version : Version
    cache_dir : Path
        Made if need be.
    download : callable
        Downloads the package into a folder and returns where in it the package lies.

    Raises
    ------
    RegistryError
        The version is not one of ours, or its package is not the one that was registered.
    PackageError
        The registry's own copy is damaged.
    """
    if not re.fullmatch("[0-9a-f]{64}", version.digest):
        raise RegistryError(
            f"version {version.version} of '{version.name}' has no digest in its tag {DIGEST}: it "
            "was not registered by vae_anomaly. Give the alias to a version that was"
        )
    target = cache_dir / version.digest
    is_damaged = False
    if target.is_dir():
        try:
            verify_package(target, version.digest)
            return target
        except PackageError as error:
            is_damaged = True
            logger.warning(
                "the copy of version %s on this machine is damaged, and is fetched again: %s",
                version.version,
                error,
            )
    cache_dir.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache_dir))
    try:
        folder = download(draft)
        _verify(version, folder)
        if is_damaged:
            with suppress(FileNotFoundError):  # another process was faster
                os.replace(target, draft / "replaced")
        _move(folder, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def note_champion(version: Version, cache_dir: Path) -> None:
    """Remember whose package the champion's is, all at once."""
    content = {**asdict(version), "created_at": version.created_at.isoformat()}
    draft = cache_dir / f".{CHAMPION_FILE}-{os.getpid()}"
    draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(draft, cache_dir / CHAMPION_FILE)


def cached_champion(cache_dir: Path) -> Version | None:
    """Champion that was fetched last, if its package still lies in the cache, damaged or not."""
    file = cache_dir / CHAMPION_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["created_at"] = datetime.fromisoformat(content["created_at"])
        content["aliases"] = tuple(content["aliases"])
        version = Version(**content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged, and names no champion: %s", file, error)
        return None
    return version if (cache_dir / version.digest).is_dir() else None


def _verify(version: Version, folder: Path) -> None:
    """Hold what was downloaded against the digest in the version's tag, and against its seal."""
    sealed = hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()
    if sealed != version.digest:
        raise RegistryError(
            f"the package of version {version.version} of '{version.name}' is not the one that was "
            f"registered: its digest is {sealed[:12]}…, not {version.digest[:12]}…. Somebody "
            "changed it; give the alias to another version, or train again"
        )
    verify_package(folder, version.digest)


def _move(folder: Path, target: Path) -> None:
    try:
        os.replace(folder, target)
    except OSError:
        if not target.is_dir():  # else another process was faster, with the same package
            raise
