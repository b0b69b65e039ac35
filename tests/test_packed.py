"""Packed files are what they are by their first bytes, and break off behind their good ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_anomaly.data.batches import UNREADABLE, until_failure
from vae_anomaly.data.sources.packed import PACKED_ENDINGS, unpacked, unpacked_name

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


def unpack(packed: bytes, block_bytes: int = 1 << 16) -> bytes:
    return b"".join(unpacked(io.BytesIO(packed), block_bytes))


def test_every_ending_has_a_packer_here() -> None:
    assert set(PACKERS) == set(PACKED_ENDINGS)


@pytest.fixture(params=PACKERS)
def packer(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return PACKERS[str(request.param)]


@pytest.mark.parametrize("ending", PACKERS)
@settings(max_examples=20)
@given(parts=st.lists(st.binary(max_size=200_000), min_size=1, max_size=4))
def test_what_was_packed_in_any_number_of_members_comes_out(
    ending: str, parts: list[bytes]
) -> None:
    assert unpack(b"".join(map(PACKERS[ending], parts))) == b"".join(parts)


def test_blocks_are_bounded(packer: Callable[[bytes], bytes]) -> None:
    blocks = list(unpacked(io.BytesIO(packer(bytes(10_000_000))), 1 << 20))
    assert sum(map(len, blocks)) == 10_000_000
    assert max(map(len, blocks)) <= (1 << 20) + (1 << 17)


def test_archive_that_breaks_off_gives_what_comes_before(packer: Callable[[bytes], bytes]) -> None:
    content = b"".join(b"%d," % (i * i * 7919 % 1000003) for i in range(600_000))
    packed = packer(content)
    for length in (len(packed) // 2, len(packed) - 1):
        failures: list[Exception] = []
        blocks = until_failure(unpacked(io.BytesIO(packed[:length]), 1 << 16), failures)
        got = b"".join(blocks)
        assert isinstance(failures[0], UNREADABLE)
        assert content.startswith(got)
        assert len(got) > length  # some of it came


@pytest.mark.parametrize("content", [b"", b"B", b"BZhours,flow\n1,2\n", b"a,b\n1,2\n"])
def test_text_stays_as_it_is(content: bytes) -> None:
    assert unpack(content) == content


def test_name_loses_one_ending() -> None:
    assert unpacked_name("a/B.CSV.ZST") == "a/b.csv"
    assert unpacked_name("a/b.gz.csv") == "a/b.gz.csv"
