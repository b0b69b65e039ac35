"""Compressed files: recognised by their first bytes, unpacked as they are read."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import BinaryIO

import pyarrow as pa

from vae_anomaly.data.batches import until_failure

__all__ = ["PACKED_ENDINGS", "unpacked", "unpacked_name"]

#: What may follow the ending of a text file. What a file is, its first bytes say.
PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")

#: Bytes that are unpacked at once.
PIECE_BYTES = 1 << 17

#: How a reader of some bytes at a time is made from a packed file.
Unpacker = Callable[[BinaryIO], Callable[[int], bytes]]


def _zstd(raw: BinaryIO) -> Callable[[int], bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def read(n_bytes: int) -> bytes:
        piece: bytes = stream.read(n_bytes)
        return piece

    return read


#: First bytes of each kind (RFC 1952; bzip2 1.0.6; xz 1.2; RFC 8878), and how it is unpacked. Each
#: of them may have several members, one after the other.
MAGIC: Mapping[bytes, Unpacker] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw).read1,
    b"BZh": lambda raw: bz2.BZ2File(raw).read1,
    b"\xfd7zXZ\0": lambda raw: lzma.LZMAFile(raw).read1,  # noqa: SIM115
    b"\x28\xb5\x2f\xfd": _zstd,
}
#: What follows ``BZh`` and the level: the first block, or the end of a file without any.
BZIP2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


def unpacked_name(path: str) -> str:
    """A path in small letters, without the ending of a packed file."""
    name = path.lower()
    return next((name.removesuffix(e) for e in PACKED_ENDINGS if name.endswith(e)), name)


def unpacked(raw: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """Bytes of a file, unpacked, in blocks of about `block_bytes`; the last may be empty.

    Raises
    ------
    OSError, EOFError, zlib.error, lzma.LZMAError
        The file is damaged or breaks off; the bytes before come first.
    """
    failures: list[Exception] = []
    start = raw.read(10)
    raw.seek(0)
    unpack = _unpacker(start)
    read = partial(unpack(raw), PIECE_BYTES) if unpack else partial(raw.read, block_bytes)
    held = bytearray()
    for piece in until_failure(iter(read, b""), failures):
        held += piece
        if len(held) >= block_bytes:
            yield bytes(held)
            held.clear()
    yield bytes(held)
    if failures:
        raise failures[0]


def _unpacker(start: bytes) -> Unpacker | None:
    """How a file that begins so is unpacked; None where it is not packed."""
    if start.startswith(b"BZh") and start[4:] not in BZIP2_BLOCKS:
        return None  # a text may begin so
    return next((unpack for magic, unpack in MAGIC.items() if start.startswith(magic)), None)
