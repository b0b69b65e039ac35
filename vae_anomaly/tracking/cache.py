"""Packages on this machine's disk: they outlive a registry that does not answer.

A package lies in ``<cache>/<digest>``; ``<cache>/champion.json`` says whose was the champion's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from vae_anomaly.errors import RegistryError
from vae_anomaly.tracking.versions import DIGEST, Version

__all__ = ["cached_champion", "fetch", "note_champion"]

CHAMPION_FILE = "champion.json"


def fetch(
    version: Version, cache_dir: Path, download: Callable[[Path], Path], *, fresh: bool = False
) -> Path:
    """Folder of a version's package, downloaded unless it lies there; all at once or not at all.

    Parameters
    ----------
    version : Version
    cache_dir : Path
        Made if need be.
    download : callable
        Downloads the package into a folder and returns where in it the package lies.
    fresh : bool, optional
        Download it again, because the one in the cache is damaged.

    Raises
    ------
    RegistryError
        The version is not one of ours, or its package is not the one that was registered.
    """
    if not re.fullmatch("[0-9a-f]{64}", version.digest):
        raise RegistryError(
            f"version {version.version} of '{version.name}' has no digest in its tag {DIGEST}: it "
            "was not registered by vae_anomaly. Give the alias to a version that was"
        )
    target = cache_dir / version.digest
    if target.is_dir() and not fresh:
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache_dir))
    try:
        folder = download(draft)
        _verify(version, folder)
        if target.is_dir():
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
    """Champion that was fetched last, if its package still lies in the cache."""
    try:
        content = json.loads((cache_dir / CHAMPION_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    content["created_at"] = datetime.fromisoformat(content["created_at"])
    content["aliases"] = tuple(content["aliases"])
    version = Version(**content)
    return version if (cache_dir / version.digest).is_dir() else None


def _verify(version: Version, folder: Path) -> None:
    """package.json holds the hashes of the other files, which `ModelPackage.read` verifies."""
    sealed = hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()
    if sealed != version.digest:
        raise RegistryError(
            f"the package of version {version.version} of '{version.name}' is not the one that was "
            f"registered: its digest is {sealed[:12]}…, not {version.digest[:12]}…. Somebody "
            "changed it; give the alias to another version, or train again"
        )


def _move(folder: Path, target: Path) -> None:
    try:
        os.replace(folder, target)
    except OSError:
        if not target.is_dir():  # else another process was faster, with the same package
            raise
