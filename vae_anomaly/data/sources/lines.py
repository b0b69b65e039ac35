"""Bytes of a text file as blocks of whole lines in UTF-8, without what stands before the table."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import chain

from vae_anomaly.errors import SourceError

__all__ = ["as_utf8", "whole_lines", "with_single_blanks", "without_preamble"]

#: A longer line is no row of a table.
MAX_LINE_BYTES = 1 << 24

LINE_END = re.compile(rb"\r\n|\r|\n")
#: A quoted cell within a line, or blanks; a quote opens a cell only where one begins.
QUOTED_OR_BLANKS = re.compile(rb'(?<![^ \t\r\n])"[^"\r\n]*+(?:""[^"\r\n]*+)*+"|[ \t]+')


def as_utf8(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Bytes in UTF-8 without byte order mark; what is undecodable becomes a text as ``\\x81``."""
    try:
        is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
        "a".encode(encoding)
    except LookupError as error:
        raise SourceError(
            f"{error}; set source.encoding to utf-8, latin-1 or utf-16, say"
        ) from error
    first = next(chunks, b"")
    if is_utf8 and first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceError("it is UTF-16; set source.encoding to utf-16")
    chunks = chain([first], chunks)
    if not is_utf8:
        decoder = codecs.getincrementaldecoder(encoding)("backslashreplace")
        texts = chain((decoder.decode(c) for c in chunks), (decoder.decode(b"", True) for _ in "."))
        chunks = (text.encode("utf-8", "backslashreplace") for text in texts)
    yield next(chunks).removeprefix(codecs.BOM_UTF8)
    yield from chunks


def whole_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut only behind line ends; a ``\\r\\n`` stays together."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        cut = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, max(len(rest) - 1, 0)) + 1
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
        if len(rest) > MAX_LINE_BYTES:
            raise SourceError(f"a line is longer than {MAX_LINE_BYTES:,} bytes: this is no table")
    if rest:
        yield rest


def without_preamble(blocks: Iterator[bytes], n_lines: int) -> Iterator[bytes]:
    """The blocks behind the first `n_lines` lines, from the first that is not empty.

    Raises
    ------
    SourceError
        The file has no more lines than these.
    """
    left, n_seen = n_lines, 0
    for block in blocks:
        n_seen += 1
        start = 0
        while left and (line_end := LINE_END.search(block, start)):
            start = line_end.end()
            left -= 1
        if left and start < len(block):  # the last line of the file, without an end
            left, start = left - 1, len(block)
        if block[start:].strip(b"\r\n"):
            yield block[start:]
            yield from blocks
            return
    if n_lines and n_seen:
        raise SourceError(
            f"nothing follows the {n_lines} lines that source.skip_lines leaves out; lower it"
        )


def with_single_blanks(lines: bytes) -> bytes:
    """Lines in which one space stands between any two cells, and none around them.

    Blanks within quotes stay; a quote does not run on into the next line.

    Examples
    --------
    >>> with_single_blanks(b'  1\\t 2  "a  b" \\n3  4  5')
    b'1 2 "a  b"\\n3 4 5'
    """
    if b'"' in lines:
        lines = QUOTED_OR_BLANKS.sub(lambda m: m[0] if m[0].startswith(b'"') else b" ", lines)
    else:
        lines = lines.replace(b"\t", b" ")
        while b"  " in lines:
            lines = lines.replace(b"  ", b" ")
    for end in (b"\n", b"\r"):
        lines = lines.replace(b" " + end, end).replace(end + b" ", end)
    return lines.strip(b" ")
