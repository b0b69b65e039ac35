"""Typed tables: Arrow streams, and Delta tables whose rows keep their numbers."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import feather

from vae_anomaly.config import Source
from vae_anomaly.data.batches import MAX_BATCH_BYTES
from vae_anomaly.data.sources import SourceFile, content_digest, list_files, read_batches
from vae_anomaly.errors import SourceError

TABLE = pa.table(
    {"time": pa.array(range(50), pa.timestamp("s")), "flow": [i / 4 for i in range(50)]}
)


def read(file: SourceFile, source: Source, batch_rows: int = 1000) -> pa.Table:
    return pa.Table.from_batches(list(read_batches(file, source, batch_rows=batch_rows)))


# ------------------------------------------------------------------------------------------ Arrow


def test_stream_file_and_feather_are_read_alike(tmp_path: Path) -> None:
    for name, new in (("a.arrow", pa.ipc.new_file), ("b.ipc", pa.ipc.new_stream)):
        with new(tmp_path / name, TABLE.schema) as writer:
            writer.write_table(TABLE, max_chunksize=9)
    feather.write_feather(TABLE, tmp_path / "c.feather", compression="zstd")
    source = Source(path=str(tmp_path))
    files = list_files(source)
    assert len(files) == 3
    for file in files:
        assert read(file, source).select(["time", "flow"]).equals(TABLE), file.path


def test_stream_without_its_end_gives_the_rows_before(tmp_path: Path) -> None:
    with pa.ipc.new_stream(tmp_path / "a.arrow", TABLE.schema) as writer:
        writer.write_table(TABLE)
    whole = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(whole[:-8])
    (file,) = list_files(Source(path=str(tmp_path)))
    reading = read_batches(file, Source(path=str(tmp_path)))
    assert next(reading).num_rows == 50
    with pytest.raises(SourceError, match="after row 50: it breaks off"):
        next(reading)


def test_one_large_record_batch_comes_in_bounded_batches(tmp_path: Path) -> None:
    table = pa.table({"time": range(40), "note": ["x" * (1 << 22)] * 40})
    feather.write_feather(table, tmp_path / "a.feather", compression="lz4")
    (file,) = list_files(Source(path=str(tmp_path)))
    found = [b.nbytes for b in read_batches(file, Source(path=str(tmp_path)))]
    assert max(found) <= MAX_BATCH_BYTES + (1 << 22)
    assert len(found) > 1


def test_offsets_that_point_elsewhere_are_refused(tmp_path: Path) -> None:
    table = pa.table({"note": [f"{i:08}" for i in range(100)]})
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    content = (tmp_path / "a.arrow").read_bytes()
    offset = (50 * 8).to_bytes(4, "little")
    assert content.count(offset) == 1
    (tmp_path / "a.arrow").write_bytes(content.replace(offset, (1 << 30).to_bytes(4, "little")))
    (file,) = list_files(Source(path=str(tmp_path)))
    with pytest.raises(SourceError, match="cannot be read"):
        read(file, Source(path=str(tmp_path)))


# ------------------------------------------------------------------------------------------ Delta


def test_delta_table_is_one_file_wherever_it_is_found(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "in/line/readings", TABLE)
    (tmp_path / "in/a.csv").write_text("time,flow\n1,2\n")
    for path in ("in", "in/*", "in/line/readings"):
        files = list_files(Source(path=str(tmp_path / path)))
        assert [Path(f.path).name for f in files if f.modified_ns < 0] == ["readings"]
        assert len(files) == (1 if path.endswith("readings") else 2)
    (file,) = list_files(Source(path=str(tmp_path / "in/line/readings"), format="delta"))
    assert file.size == 0


def test_delta_version_is_the_content(tmp_path: Path) -> None:
    source = Source(path=str(tmp_path / "t"))
    write_deltalake(tmp_path / "t", TABLE)
    (first,) = list_files(source)
    assert first == list_files(source)[0]
    digest = content_digest(first, source)
    write_deltalake(tmp_path / "t", TABLE.slice(0, 3), mode="append")
    (second,) = list_files(source)
    assert second != first
    assert content_digest(first, source) == digest != content_digest(second, source)
    assert read(first, source).num_rows == 50  # the version that was listed
    assert read(second, source).num_rows == 53
    write_deltalake(tmp_path / "u", TABLE)
    (other,) = list_files(Source(path=str(tmp_path / "u")))
    assert content_digest(other, source) != digest


def test_delta_rows_keep_their_numbers_and_partitions_their_values(tmp_path: Path) -> None:
    table = TABLE.append_column("asset", pa.array([f"p{i % 5} é" for i in range(50)]))
    folder = tmp_path / "line 1 é"
    for at in range(0, 50, 10):
        write_deltalake(folder.as_uri(), table.slice(at, 10), mode="append", partition_by=["asset"])
    source = Source(path=str(folder))
    (file,) = list_files(source)
    first = read(file, source)
    assert first["_row"].to_pylist() == list(range(1, 51))
    assert (
        first.sort_by("time")
        .select(table.column_names)
        .equals(table.cast(first.select(table.column_names).schema))
    )
    DeltaTable(folder.as_uri()).create_checkpoint()
    assert read(file, source, batch_rows=7).equals(first)


def test_delta_table_with_a_lost_data_file_says_so(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", TABLE)
    source = Source(path=str(tmp_path / "t"))
    (file,) = list_files(source)
    next((tmp_path / "t").glob("*.parquet")).unlink()
    with pytest.raises(SourceError, match="t cannot be read from its start"):
        read(file, source)


def test_folder_that_is_no_delta_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no Delta table"):
        list_files(Source(path=str(tmp_path), format="delta"))
    with pytest.raises(SourceError, match="is no Delta table"):
        list_files(Source(path=str(tmp_path / "gone"), format="delta"))
