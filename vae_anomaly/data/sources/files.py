"""Files of a source: found, told apart by their endings, known by their digest, and settled.

A Delta table is one file: a folder with a ``_delta_log``, known by its id and its version.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator

from vae_anomaly.config import Contract, Source
from vae_anomaly.data.sources.packed import PACKED_ENDINGS, unpacked_name
from vae_anomaly.data.sources.storage import (
    SourceFile,
    is_remote,
    local_path,
    open_file,
    open_store,
    public_url,
)
from vae_anomaly.data.sources.tables import delta_digest, delta_file, is_delta
from vae_anomaly.errors import ContractError, SourceError

__all__ = [
    "ENDINGS",
    "asset_of_file",
    "asset_stem",
    "content_digest",
    "format_of",
    "list_files",
    "reading_of",
    "still_growing",
]

#: Reader of each ending where source.format is `auto`.
ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xls": "excel",
    ".ods": "excel",
}
#: Names of files that some program still writes or has left behind.
TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")


def list_files(source: Source) -> tuple[SourceFile, ...]:
    """Files of a source, sorted by path.

    Of a folder and the folders below it, these are the files with a known ending, and the Delta
    tables. Hidden and temporary files (``.a.csv``, ``~$a.csv``, ``a.csv.part``) and folders such as
    ``_temporary`` are left out. A glob takes the files that it matches, and those of the folders
    that it matches. All this holds here and behind a URL.

    Raises
    ------
    SourceError
        Nothing was found, or a folder or a store cannot be read.
    """
    if is_remote(source.path):
        found = {file.path: file for file in _remote_files(source)}
    else:
        found = {file.path: file for file in _local_files(source)}
    if not found:
        endings = ", ".join(e for e, known in ENDINGS.items() if source.format in ("auto", known))
        raise SourceError(
            f"nothing found at {public_url(source.path)!r}: looked for a file of this name, for a "
            f"folder with files that end in {endings or '_delta_log'}, and for matches of a glob; "
            "correct source.path"
        )
    return tuple(found[name] for name in sorted(found))


def content_digest(file: SourceFile, source: Source) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; of a Delta table, of its id and version.

    Files of equal digest give equal rows where `reading_of` says the same of both.

    Raises
    ------
    SourceError
        The file cannot be read.
    """
    try:
        if format_of(file, source) == "delta":
            return delta_digest(file, source)
        with open_file(file, source) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{file.path} cannot be read: {error.strerror or error}") from error


def asset_stem(path: str) -> str:
    """File name without its endings: what names the asset where no column does.

    Examples
    --------
    >>> asset_stem("s3://plant/pump_7.csv.zst")
    'pump_7'
    """
    name = path.rstrip("/").replace("\\", "/").rpartition("/")[2]
    plain = name[: len(unpacked_name(name))]
    stem, ending = os.path.splitext(plain)
    return stem if _format_by_ending(name) and ending.lower() in ENDINGS else name


def asset_of_file(path: str, contract: Contract) -> str:
    r"""What names the asset of a file's rows; empty where a column does.

    Raises
    ------
    ContractError
        The contract's expression finds no asset in the name.

    Examples
    --------
    >>> daily = {"from_file": r"^(.+)_\d{4}-\d\d-\d\d"}
    >>> contract = Contract(time="time", asset=daily, sensors=("flow",))
    >>> asset_of_file("incoming/P-101_2026-11-02.csv", contract)
    'P-101'
    """
    asset, stem = contract.asset, asset_stem(path)
    if asset is None:
        return stem
    if not asset.from_file:
        return asset.name
    name = stem
    if "/" in asset.from_file:
        folder = path.rstrip("/").replace("\\", "/").rpartition("/")[0]
        name = f"{folder}/{stem}"
    found = re.search(asset.from_file, name)
    if found is None or not (found[1] or "").strip():
        raise ContractError(
            f"{path}: contract.asset.from_file '{asset.from_file}' finds no asset in '{name}'. "
            "Rename the file, or change the expression in plant.yml"
        )
    return found[1].strip()


def _format_by_ending(path: str) -> str | None:
    """The format that a name promises; what is packed can only be a text."""
    name = unpacked_name(path)
    found = ENDINGS.get(os.path.splitext(name)[1])
    is_packed = path.lower().endswith(PACKED_ENDINGS)
    return None if is_packed and found != "csv" else found


def format_of(file: SourceFile, source: Source) -> str | None:
    """How a file is read: as the settings say, or else what it is."""
    if source.format != "auto":
        return source.format
    is_table = not file.location if is_remote(file.path) else is_delta(file.path)
    return "delta" if is_table else _format_by_ending(file.path)


def reading_of(file: SourceFile, source: Source) -> str:
    """What a file's name says of how it is read, beside the settings.

    Examples
    --------
    >>> reading_of(SourceFile("a.tsv.gz", 0, 0), Source(path=""))
    'csv by tabs'
    """
    is_tsv = unpacked_name(file.path).endswith(".tsv")
    return f"{format_of(file, source)}{' by tabs' * is_tsv}"


def still_growing(files: Iterable[SourceFile], source: Source) -> frozenset[str]:
    """Paths of the files that change while they are watched for at most `source.settle_s`.

    Only those are watched that changed less than so long ago by this machine's clock, or in its
    future. All are watched at once.
    """
    settle_ns = int(source.settle_s * 1e9)
    now = time.time_ns()
    fresh = [file for file in files if file.modified_ns > now - settle_ns]
    if not fresh:
        return frozenset()
    youngest = max(file.modified_ns for file in fresh)
    time.sleep(min(settle_ns, youngest + settle_ns - now) / 1e9)
    return frozenset(file.path for file in fresh if _as_it_is(file, source) != file)


def _as_it_is(file: SourceFile, source: Source) -> SourceFile | None:
    """A file as it is now; None where it is gone."""
    try:
        if is_remote(file.path):
            return open_store(source).again(file)
        return _listed(file.path, source)
    except (SourceError, OSError):
        return None


# ------------------------------------------------------------------------------- on this machine


def _local_files(source: Source) -> Iterator[SourceFile]:
    path = local_path(source.path)
    if os.path.isfile(path) or source.format == "delta":
        yield _listed(path, source)
        return
    for match in [path] if os.path.isdir(path) else glob.glob(path, recursive=True):
        if os.path.isdir(match):
            yield from (_listed(name, source) for name in _files_below(match, source))
        elif _is_file(match) and not _is_left_out(os.path.basename(match)):
            yield _listed(match, source)


def _listed(path: str, source: Source) -> SourceFile:
    try:
        path.encode()
        if source.format == "delta" or (source.format == "auto" and is_delta(path)):
            return delta_file(path, source)
        stat = os.stat(path) if os.path.exists(path) else os.lstat(path)
    except UnicodeEncodeError as error:
        raise SourceError(f"{path!r}: this name is not UTF-8; rename the file") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return SourceFile(path, stat.st_size, stat.st_mtime_ns)


def _files_below(folder: str, source: Source) -> Iterator[str]:
    """Files with the endings of a format; a folder that is linked twice comes once."""

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if os.path.realpath(root) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        if is_delta(root):
            folders.clear()
            if source.format in ("auto", "delta"):
                yield root
            continue
        folders[:] = sorted(n for n in folders if not (n.startswith("_") or _is_left_out(n)))
        for name in names:
            path = os.path.join(root, name)
            if _is_wanted(name, source) and _is_file(path):
                yield path


def _is_wanted(name: str, source: Source) -> bool:
    """Whether a file in a folder is one of a source, by its name."""
    known = _format_by_ending(name)
    return bool(known) and source.format in ("auto", known) and not _is_left_out(name)


def _is_file(path: str) -> bool:
    """Not a pipe or a device, which may never end; a link to nothing is one that cannot be read."""
    return os.path.isfile(path) or not os.path.exists(path)


def _is_left_out(name: str) -> bool:
    return name.startswith((".", "~")) or name.lower().endswith(TEMPORARY)


# ------------------------------------------------------------------------------------ behind a URL


def _remote_files(source: Source) -> Iterator[SourceFile]:
    if source.format == "delta":
        yield delta_file(source.path, source)
        return
    store = open_store(source)
    try:
        found = store.find()
        tables = {f.info.path.partition("/_delta_log/")[0] for f in found if _is_log(f.info.path)}
        if tables and source.format == "auto":
            yield from (delta_file(f"{store.scheme}://{table}", source) for table in tables)
        for info, within in found:
            *folders, name = (within or info.base_name).split("/")
            is_inside = any(info.path.startswith(f"{table}/") for table in tables)
            is_hidden = any(n.startswith("_") or _is_left_out(n) for n in folders)
            if is_inside or is_hidden or _is_left_out(name):
                continue
            if not within or _is_wanted(name, source):
                yield store.described(info)
    except OSError as error:
        raise SourceError(f"{public_url(source.path)} cannot be read: {error.strerror}") from error


def _is_log(path: str) -> bool:
    return "/_delta_log/" in path and path.endswith(".json")
