"""Where files lie: on this machine, or in a store behind a URL; opened, described, found.

A URL's store is one of pyarrow's own where pyarrow knows it (``s3, gs, abfs, hdfs``), and else one
of fsspec's. What a store says when it fails may hold the URL with all its secrets: nothing of that
leaves this module.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

import fsspec
import pyarrow.fs as pafs

from vae_anomaly.config import Source
from vae_anomaly.errors import SourceError

__all__ = [
    "SourceFile",
    "Store",
    "from_environment",
    "is_remote",
    "local_path",
    "open_file",
    "open_store",
    "public_url",
]

#: Stores that pyarrow reads itself, and what it calls them.
NATIVE = {"s3": "S3FileSystem", "gs": "GcsFileSystem", "abfs": "AzureFileSystem"}
#: Where a store has no time of change: what else it says of a file's content.
MARKS = ("mtime", "LastModified", "last_modified", "updated", "created", "ETag", "etag", "md5",
         "md5Hash", "checksum", "crc32c")  # fmt: skip
#: What a glob has and other names have not.
WILD = re.compile(r"[*?\[]")
#: Bytes that are fetched at once.
BUFFER_BYTES = 1 << 20

Result = TypeVar("Result")


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was listed: path or URL, size in bytes, time of change in ns.

    The URL is without secrets; `location` is what its store calls the file. Where a store knows no
    times, `modified_ns` is a negative number that changes with the content. Of a Delta table,
    which is one file, `size` is the version.
    """

    path: str
    size: int
    modified_ns: int
    location: str = field(default="", repr=False, compare=False)


class Found(NamedTuple):
    """A file of a store, and its path within the folder that it was found in, if in one."""

    info: pafs.FileInfo
    within: str


@dataclass(frozen=True)
class Store:
    """A store behind a URL: what reads it, and the texts that nobody may see."""

    scheme: str
    root: str = field(repr=False)  # what the URL points to, in the store's words
    files: pafs.FileSystem = field(repr=False)
    other: fsspec.AbstractFileSystem | None = field(repr=False)  # where `files` only wraps it
    secrets: tuple[str, ...] = field(repr=False)

    def guarded(self, action: Callable[[], Result]) -> Result:
        """What an action on the store returns; its failure as an `OSError` without secrets."""
        try:
            return action()
        except Exception as error:  # each store raises its own kinds
            number = getattr(error, "errno", None) or errno.EIO
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            safe = OSError(number, without_secrets(said, self.secrets))
        raise safe  # outside, or the traceback would show the error with its secrets

    def described(self, info: pafs.FileInfo) -> SourceFile:
        """A listed file as what it is to us."""
        is_url = "://" in info.path  # what HTTP calls a file
        path = public_url(info.path) if is_url else f"{self.scheme}://{info.path.lstrip('/')}"
        size = -1 if info.size is None else info.size
        return SourceFile(path, size, self._changed(info), info.path)

    def _changed(self, info: pafs.FileInfo) -> int:
        if info.mtime_ns:
            return int(info.mtime_ns)
        marks: list[str] = []
        if self.other is not None:
            other = self.other
            said = self.guarded(lambda: other.info(info.path))
            marks = [f"{name}={said[name]}" for name in MARKS if said.get(name) is not None]
        if not marks:  # nothing tells whether it changed: look again each time
            return -time.time_ns()
        digest = hashlib.sha256(" ".join(marks).encode()).digest()
        return -int.from_bytes(digest[:7], "big") - 1

    def find(self) -> list[Found]:
        """The file at the root, the files below it, or what a glob matches and what is below."""
        return self.guarded(self._find)

    def _find(self) -> list[Found]:
        self._forget()
        info = self.files.get_file_info(self.root)
        if info.type == pafs.FileType.File:
            return [Found(info, "")]
        if info.type == pafs.FileType.Directory:
            within = len(self.root) + 1
            return [Found(f, f.path[within:]) for f in self._below(self.root)]
        wild = WILD.search(self.root)
        if wild is None or self.scheme.startswith("http"):
            return []
        pattern = glob_pattern(self.root)
        below = self._below(self.root[: wild.start()].rpartition("/")[0])
        matches = ((found, pattern.match(found.path)) for found in below)
        return [Found(f, f.path[match.end() :].lstrip("/")) for f, match in matches if match]

    def _below(self, folder: str) -> Iterator[pafs.FileInfo]:
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        for found in self.files.get_file_info(selector):
            if found.type == pafs.FileType.File:
                yield found

    def _forget(self) -> None:
        """Let go of listings that were kept from before."""
        if self.other is not None:
            self.other.invalidate_cache()

    def again(self, file: SourceFile) -> SourceFile:
        """The same file as it is now."""
        self._forget()
        return self.described(self.guarded(lambda: self.files.get_file_info(file.location)))


class _Remote(io.RawIOBase):
    """A file of a store as Python reads files; every failure is an `OSError` without secrets."""

    def __init__(self, store: Store, location: str) -> None:
        self._store = store
        self._file = store.guarded(lambda: store.files.open_input_file(location))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        piece: bytes = self._store.guarded(lambda: self._file.read(len(view)))
        view[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._store.guarded(lambda: self._file.seek(offset, whence)))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def is_remote(path: str) -> bool:
    """Whether a path is a URL of a store; ``file://`` is this machine."""
    return "://" in path and not path.lower().startswith("file://")


def local_path(path: str) -> str:
    """The absolute path of a path, or of a URL ``file://``."""
    if path.lower().startswith("file://"):
        path = url2pathname(urlsplit(path).path)
    return os.path.abspath(path)


@contextmanager
def open_file(file: SourceFile, source: Source) -> Iterator[io.BufferedReader]:
    """A file's bytes, wherever it lies."""
    if is_remote(file.path):
        with io.BufferedReader(_Remote(open_store(source), file.location), BUFFER_BYTES) as stream:
            yield stream  # type: ignore[misc]
    else:
        with open(file.path, "rb") as stream:
            yield stream


def open_store(source: Source) -> Store:
    """The store behind the URL of a source.

    Raises
    ------
    SourceError
        Nothing here reads such URLs, or the store refuses its options.
    """
    url = urlsplit(source.path)
    options = {name: from_environment(name, text) for name, text in source.storage.items()}
    secrets = tuple(
        text
        for text in (*options.values(), url.username, url.password, url.query, source.path)
        if text and len(text) > 3
    )
    try:
        if url.scheme in NATIVE:
            return _native(source.path, options, secrets)
        if url.scheme == "hdfs":
            files, root = pafs.FileSystem.from_uri(source.path)
            return Store(url.scheme, root, files, None, secrets)
        other, root = fsspec.core.url_to_fs(source.path, **_typed(options))
        files = pafs.PyFileSystem(pafs.FSSpecHandler(other))
        return Store(url.scheme, root, files, other, secrets)
    except Exception as error:  # each store raises its own kinds
        said = without_secrets(f"{type(error).__name__}: {error}", secrets)
        shown = public_url(source.path)
    raise SourceError(
        f"{shown} cannot be opened: {said}; correct source.path or source.storage, or install the "
        "package that fsspec names for such URLs"
    )


def _native(path: str, options: dict[str, str], secrets: tuple[str, ...]) -> Store:
    """A store of pyarrow's; options in the URL's query count too, keys before its host for S3."""
    url = urlsplit(path)
    given: dict[str, str] = dict(parse_qsl(url.query))
    root = unquote(f"{url.netloc.rpartition('@')[2]}{url.path}").rstrip("/")
    if url.scheme == "s3" and url.username:
        given |= {"access_key": unquote(url.username), "secret_key": unquote(url.password or "")}
    if url.scheme == "abfs" and url.username:  # container@account.host/path
        given["account_name"] = (url.hostname or "").partition(".")[0]
        root = f"{unquote(url.username)}{unquote(url.path)}".rstrip("/")
    files = getattr(pafs, NATIVE[url.scheme])(**_typed(given | options))
    return Store(url.scheme, root, files, None, secrets)


def public_url(path: str) -> str:
    """A URL without user, password, query and fragment.

    Examples
    --------
    >>> public_url("s3://key:secret@bucket/a.csv?region=eu-1")
    's3://bucket/a.csv'
    """
    scheme, found, rest = path.partition("://")
    if not found:
        return path
    place, slash, inner = rest.partition("/")
    inner = re.split(r"[?#]" if scheme.startswith("http") else r"\?", inner)[0]
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{inner}"


def without_secrets(text: str, secrets: tuple[str, ...]) -> str:
    """A text with each secret in it replaced, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…").replace(unquote(secret), "…")
    return text


def glob_pattern(path: str) -> re.Pattern[str]:
    """What a glob matches: ``**`` any folders, ``*`` a part of a name; or a folder above a file.

    ``?`` begins the options of a URL, and so is no part of a glob in one.

    Examples
    --------
    >>> bool(glob_pattern("bucket/**/a*.csv").match("bucket/x/y/a1.csv"))
    True
    >>> bool(glob_pattern("bucket/*.csv").match("bucket/x/a.csv"))
    False
    """
    steps = []
    for step in path.removesuffix("/**").split("/"):
        if step == "**":
            steps.append(r"(?:(?!\.)[^/]+/)*")
        else:
            one = fnmatch.translate(step).removeprefix("(?s:").removesuffix(r")\Z")
            one = one.removesuffix(r")\z")
            steps.append(one.replace(".*", "[^/]*") + "/")
    return re.compile("".join(steps).removesuffix("/") + r"(?=/|\Z)")


def from_environment(name: str, text: str) -> str:
    """A storage option in which ``${NAME}`` is taken from the environment."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise SourceError(f"source.storage.{name}: the environment has no {match[1]}; set it")
        return found

    return re.sub(r"\$\{(\w+)\}", value, text)


def _typed(options: Mapping[str, str]) -> dict[str, str | bool]:
    """Options in which ``true`` and ``false`` are truths, as the stores want them."""
    truths = {"true": True, "false": False}
    return {name: truths.get(text.lower(), text) for name, text in options.items()}
