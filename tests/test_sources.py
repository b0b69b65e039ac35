"""Files become batches: every line once, in order, whatever the bytes are."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import naive
import openpyxl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vae_anomaly.config import Contract, Source
from vae_anomaly.data.batches import MAX_BATCH_BYTES
from vae_anomaly.data.contract import check_batch
from vae_anomaly.data.sources import (
    SOURCES,
    SourceFile,
    content_digest,
    delimited,
    list_files,
    read_batches,
)
from vae_anomaly.errors import SourceError

quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

TABLE = pa.table({"time": [f"2026-03-09 10:00:{i:02}" for i in range(60)], "flow": range(60)})


def write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def write_excel(table: pa.Table, path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        book.active.append(row)
    book.save(path)


def write_delta(table: pa.Table, path: Path) -> None:
    """A table in several data files, as one version."""
    write_deltalake(path, table, target_file_size=1)


#: How each source writes a table: the battery below runs over them.
WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "csv": pacsv.write_csv,
    "parquet": lambda table, path: pq.write_table(table, path, row_group_size=7),
    "arrow": write_arrow,
    "excel": write_excel,
    "delta": write_delta,
}

Row = list[bytes | None] | str


def batches(path: Path, *, batch_rows: int = 65_536, **settings: object) -> list[pa.RecordBatch]:
    source = Source.model_validate({"path": str(path)} | settings)
    return list(read_batches(SourceFile(str(path), 0, 0), source, batch_rows=batch_rows))


def rows(found: list[pa.RecordBatch]) -> list[Row]:
    """The cells or the broken line of each row; the numbers must rise by one from 1."""
    assert all(batch.schema == found[0].schema for batch in found)
    table = pa.Table.from_batches(found)
    assert table["_row"].to_pylist() == list(range(1, table.num_rows + 1))
    broken = table["_broken"].to_pylist()
    cells = table.drop_columns(["_row", "_broken"]).to_pylist()
    for line, row in zip(broken, cells, strict=True):
        assert line is None or all(cell is None for cell in row.values())
    return [
        list(row.values()) if line is None else line
        for line, row in zip(broken, cells, strict=True)
    ]


def read_csv(path: Path, content: bytes, **settings: object) -> list[Row]:
    path.write_bytes(content)
    return rows(batches(path, **settings))


# ------------------------------------------------------------------------------- finding files


def found(path: Path, **settings: str) -> list[str]:
    return [Path(file.path).name for file in list_files(Source(path=str(path), **settings))]


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A folder as plants have them."""
    for name in (
        "b.csv", "a.CSV", "c.csv.gz", "d.tsv", "e.parquet", "sub/f.csv", "sub/g.txt",
        ".hidden.csv", "~$a.csv", "a.csv.part", "a.csv.tmp", "notes.md", "h.parquet.gz",
        ".cache/i.csv", "_delta_log/00.parquet", "_temporary/j.csv",
    ):  # fmt: skip
        path = tmp_path / "plant" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"time,flow\n")
    return tmp_path / "plant"


def test_file_is_found_whatever_its_name(plant: Path) -> None:
    (file,) = list_files(Source(path=str(plant / "notes.md")))
    stat = (plant / "notes.md").stat()
    assert file == SourceFile(str(plant / "notes.md"), 10, stat.st_mtime_ns)


def test_folder_gives_its_tables_sorted_without_hidden_and_temporary_ones(plant: Path) -> None:
    everything = ["a.CSV", "b.csv", "c.csv.gz", "d.tsv", "e.parquet", "f.csv", "g.txt"]
    assert found(plant) == everything
    assert found(plant, format="parquet") == ["e.parquet"]
    assert found(plant, format="csv") == [name for name in everything if name != "e.parquet"]


def test_glob_gives_what_it_matches(plant: Path) -> None:
    assert found(plant / "*.csv") == ["b.csv"]
    assert found(plant / "**" / "*.csv") == ["j.csv", "b.csv", "f.csv"]
    assert found(plant / "*.md") == ["notes.md"]
    assert found(plant / "su*") == ["f.csv", "g.txt"]


def test_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "line[1]").mkdir()
    (tmp_path / "line[1]" / "a.csv").write_bytes(b"time\n")
    assert found(tmp_path / "line[1]") == ["a.csv"]


def test_links_are_followed_once_and_what_is_no_file_is_left_out(plant: Path) -> None:
    (plant / "loop").symlink_to(plant)
    (plant / "sub" / "linked.csv").symlink_to(plant / "b.csv")
    os.mkfifo(plant / "pipe.csv")
    assert found(plant).count("b.csv") == 1
    assert "linked.csv" in found(plant)
    assert "pipe.csv" not in found(plant)


def test_link_to_nothing_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone.csv")
    (file,) = list_files(Source(path=str(tmp_path)))
    with pytest.raises(SourceError, match=r"a\.csv cannot be read"):
        content_digest(file, Source(path=""))
    with pytest.raises(SourceError, match=r"a\.csv cannot be read from its start"):
        next(read_batches(file, Source(path=str(tmp_path))))


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone", tmp_path / "*.csv"):
        with pytest.raises(SourceError, match=r"nothing found at.*csv.*parquet.*source.path"):
            list_files(Source(path=str(path)))


def test_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"time\n1\n")
    (file,) = list_files(Source(path=str(tmp_path)))
    assert content_digest(file, Source(path="")) == hashlib.sha256(b"time\n1\n").hexdigest()


# -------------------------------------------------------------------------- battery over SOURCES


def test_every_source_has_a_writer_here() -> None:
    assert set(WRITERS) == set(SOURCES)


@pytest.fixture(params=sorted(SOURCES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("batch_rows", [1, 7, 59, 60, 61, 65_536])
def test_rows_come_once_in_order_in_batches_of_any_size(
    kind: str, batch_rows: int, tmp_path: Path
) -> None:
    WRITERS[kind](TABLE, tmp_path / "table")
    got = batches(tmp_path / "table", format=kind, batch_rows=batch_rows)
    assert [batch.num_rows for batch in got[:-1]] == [batch_rows] * (len(got) - 1)
    assert got[0].schema.names == ["time", "flow", "_row", "_broken"]
    times = [t if isinstance(t, str) else t.decode() for t, _ in rows(got)]
    assert times == TABLE["time"].to_pylist()


def test_equal_rows_make_equal_readings(kind: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": [f"2026-03-09 10:00:{i:02}" for i in range(60)],
            "asset": ["pump 1", "pump é"] * 30,
            "flow": [None if i % 7 == 0 else i / 8 for i in range(60)],
            "fault": [i % 3 for i in range(60)],
        }
    )
    contract = Contract.model_validate(
        {
            "time": {"column": "time", "zone": "UTC"},
            "asset": "asset",
            "sensors": [{"name": "flow", "low": 0.2}],
            "label": "fault",
        }
    )
    WRITERS[kind](table, tmp_path / "table")
    checked = [
        check_batch(batch, contract, asset="")
        for batch in batches(tmp_path / "table", format=kind, batch_rows=16)
    ]
    accepted = pa.concat_tables([c.accepted for c in checked]).sort_by("time")
    is_good = [row["flow"] is None or row["flow"] >= 0.2 for row in table.to_pylist()]
    good = table.filter(pa.array(is_good))
    assert [str(t)[:19] for t in accepted["time"].to_pylist()] == good["time"].to_pylist()
    assert accepted["asset"].to_pylist() == good["asset"].to_pylist()
    assert accepted["flow"].to_pylist() == good["flow"].to_pylist()
    assert accepted["label"].to_pylist() == good["fault"].to_pylist()
    rejected = pa.concat_tables([c.rejected for c in checked])
    assert rejected["reason"].to_pylist() == ["below_range"] * is_good.count(False)


@pytest.mark.slow
def test_one_batch_is_never_heavier_than_allowed(kind: str, tmp_path: Path) -> None:
    notes = [os.urandom(15_000).hex() for _ in range(2_400)]  # 72 MB
    WRITERS[kind](pa.table({"time": range(2_400), "note": notes}), tmp_path / "table")
    found = list(
        read_batches(SourceFile(str(tmp_path / "table"), 0, 0), Source(path="", format=kind))
    )
    assert max(batch.nbytes for batch in found) <= 1.1 * MAX_BATCH_BYTES
    assert sum(batch.num_rows for batch in found) == 2_400
    assert len(found) > 1


def test_file_without_rows_gives_one_empty_batch_with_its_columns(
    kind: str, tmp_path: Path
) -> None:
    WRITERS[kind](TABLE[:0], tmp_path / "table")
    (batch,) = batches(tmp_path / "table", format=kind)
    assert batch.num_rows == 0
    assert batch.schema.names == ["time", "flow", "_row", "_broken"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\x00\xff\x00", b"PK\x03\x04\x00\x01\x02\n"])
def test_what_is_no_table_is_refused(kind: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(content)
    with pytest.raises(SourceError, match="table cannot be read from its start: "):
        batches(tmp_path / "table", format=kind)


def test_file_that_is_gone_or_a_folder_is_refused(kind: str, tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(SourceError, match="cannot be read from its start"):
            batches(path, format=kind)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["time", "flow", "flow"], "column 'flow' 2 times"),
        (["time", "_row", "flow"], "column '_row' has a name that is ours"),
    ],
)
def test_columns_that_cannot_be_told_apart_are_refused(
    kind: str, names: list[str], message: str, tmp_path: Path
) -> None:
    if kind == "delta" and len(set(names)) < len(names):
        pytest.skip("Delta refuses to write such a table")
    WRITERS[kind](pa.table([pa.array([1])] * 3, names=names), tmp_path / "table")
    with pytest.raises(SourceError, match=message):
        batches(tmp_path / "table", format=kind)


def test_file_cut_anywhere_gives_good_rows_and_then_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    WRITERS[kind](TABLE, path)
    expected = rows(batches(path, format=kind))
    cut = path
    if kind == "csv":  # a text that is cut between two lines is a whole text
        path.write_bytes(gzip.compress(path.read_bytes()))
    if kind == "delta":
        cut = max(path.glob("*.parquet"))
    whole = cut.read_bytes()
    for length in range(3, len(whole) - 1, len(whole) // 20):
        cut.write_bytes(whole[:length])
        got: list[pa.RecordBatch] = []
        with pytest.raises(SourceError, match="cannot be read") as caught:
            got.extend(read_batches(SourceFile(str(path), 0, 0), Source(path="", format=kind)))
        n_rows = sum(batch.num_rows for batch in got)
        assert f"after row {n_rows}:" in str(caught.value) or not n_rows
        assert not got or rows(got) == expected[:n_rows]


def test_unknown_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.doc").write_bytes(b"time\n1\n")
    with pytest.raises(SourceError, match=r"ends in none of \.csv, .*set source.format to csv, "):
        batches(tmp_path / "a.doc")


# --------------------------------------------------------------------------------------- Parquet


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": pa.array([0, None], pa.timestamp("us", "UTC")),
            "flow": pa.array([1.5, None], pa.float32()),
            "mode": pa.array(["auto", None]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (batch,) = batches(tmp_path / "a.parquet")
    assert pa.Table.from_batches([batch]).select(table.column_names).schema.equals(table.schema)
    assert rows([batch]) == [list(row.values()) for row in table.to_pylist()]


def test_parquet_damaged_in_the_middle_gives_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, row_group_size=20, use_dictionary=False, compression="gzip")
    content = bytearray(path.read_bytes())
    at = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    content[at : at + 60] = bytes(60)
    path.write_bytes(content)
    reading = read_batches(SourceFile(str(path), 0, 0), Source(path=""), batch_rows=20)
    assert len(rows([next(reading), next(reading)])) == 40
    with pytest.raises(SourceError, match="cannot be read after row 40: "):
        next(reading)


def test_heavy_parquet_rows_come_in_small_batches(tmp_path: Path) -> None:
    table = pa.table({"time": range(64), "note": [os.urandom(1 << 17) for _ in range(64)]})
    pq.write_table(table, tmp_path / "a.parquet")
    sizes = [batch.nbytes for batch in batches(tmp_path / "a.parquet")]
    assert max(sizes) <= MAX_BATCH_BYTES
    wide = batches(tmp_path / "a.parquet", batch_rows=5)
    assert max(batch.num_rows for batch in wide) == 5


# ------------------------------------------------------------------------------------------- CSV

#: Pieces of which quotes, line ends and bad bytes make every kind of trouble.
PIECES = (
    b'"', b'"', b'""', b'"x"', b",", b",", b"\n", b"\n", b"\r", b"\r\n",
    b"1", b"ab", b" ", b";", b"\x00", b"\xff", b"\xc3\xa9",
)  # fmt: skip
bodies = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


@quick
@given(body=bodies, n_columns=st.integers(1, 3), block_bytes=st.sampled_from([1, 5, 16, 1 << 21]))
@example(body=b'1,"a\nb"\n2,"open\n3,4\n', n_columns=2, block_bytes=5)
@example(body=b'"\xff,1\n\xff\n1,"\xff\n"\n', n_columns=2, block_bytes=1 << 21)
@example(body=b'1,"a"b\n"\n",2\n"a"b\n",3', n_columns=2, block_bytes=1 << 21)
def test_csv_is_read_as_the_naive_reader_does_wherever_it_is_cut(
    body: bytes, n_columns: int, block_bytes: int, tmp_path: Path
) -> None:
    header = b",".join([b"a", b"b", b"c"][:n_columns]) + b"\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", block_bytes)
        got = read_csv(tmp_path / "a.csv", header + body)
    expected = naive.csv_rows(body, n_columns, b",")
    assert got == [
        row if isinstance(row, list) else row.decode("utf-8", "backslashreplace")
        for row in expected
    ]


@quick
@given(content=st.binary(max_size=60) | bodies, encoding=st.sampled_from(["utf-8", "utf-16"]))
def test_any_bytes_are_rows_or_an_error(content: bytes, encoding: str, tmp_path: Path) -> None:
    with contextlib.suppress(SourceError):
        read_csv(tmp_path / "a.csv", content, encoding=encoding)


@pytest.mark.parametrize(
    "content",
    [
        b"time,flow\n1,2\n3,4\n",
        b"time,flow\n1,2\n3,4",
        b"time,flow\r\n1,2\r\n3,4\r\n",
        b"time,flow\r1,2\r3,4\r",
        b"\n\ntime,flow\n\n1,2\n\n\n3,4\n\n",
        b"\xef\xbb\xbftime,flow\n1,2\n3,4\n",
        b'"time","flow"\n"1","2"\n"3","4"\n',
        b" time , flow\n1,2\n3,4\n",
        gzip.compress(b"time,flow\n1,2\n", mtime=0) + gzip.compress(b"3,4\n", mtime=0),
        bz2.compress(b"time,flow\n1,2\n") + bz2.compress(b"3,4\n"),
        lzma.compress(b"time,flow\n1,2\n3,4\n"),
        pa.compress(b"time,flow\n1,2\n3,4\n", "zstd", asbytes=True),
    ],
)
def test_dialects_of_csv_give_the_same_rows(content: bytes, tmp_path: Path) -> None:
    assert read_csv(tmp_path / "a.csv", content) == [[b"1", b"2"], [b"3", b"4"]]
    assert batches(tmp_path / "a.csv")[0].schema.names[:2] == ["time", "flow"]


def test_broken_lines_keep_their_place_and_text(tmp_path: Path) -> None:
    got = read_csv(tmp_path / "a.csv", b"time,flow\n1,2\n3\n\n4,5,6\n \xff\n7,8\n")
    assert got == [[b"1", b"2"], "3", "4,5,6", " \\xff", [b"7", b"8"]]


def test_quote_that_never_closes_costs_its_own_line(tmp_path: Path) -> None:
    lines = [b'%d,"2' % i if i == 500 else b"%d,2" % i for i in range(10_000)]
    got = read_csv(tmp_path / "a.csv", b"time,flow\n" + b"\n".join(lines))
    assert len(got) == 10_000
    assert [row for row in got if isinstance(row, str)] == ['500,"2']


def test_quoted_cells_may_hold_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    got = read_csv(tmp_path / "a.csv", b'time,note\n1,"a,b"\n2,"a ""b"""\n3,"a\r\nb"\n4,5" pipe\n')
    assert [row[1] for row in got] == [b"a,b", b'a "b"', b"a\r\nb", b'5" pipe']


def test_quoted_cell_may_lie_across_two_blocks(tmp_path: Path) -> None:
    note = b"x\n" * (delimited.MAX_QUOTED_BYTES // 2 - 10)
    padding = (b"0," + b"1" * 997 + b"\n") * ((delimited.BLOCK_BYTES - len(note) // 2) // 1000)
    got = read_csv(tmp_path / "a.csv", b"time,note\n" + padding + b'1,"' + note + b'"\n2,3\n')
    assert got[-2:] == [[b"1", note], [b"2", b"3"]]


def test_quoted_cell_without_end_is_given_up(tmp_path: Path) -> None:
    note = b"x\n" * delimited.MAX_QUOTED_BYTES
    got = read_csv(tmp_path / "a.csv", b'time,note\n1,"' + note + b'"\n2,3\n')
    assert got[0] == '1,"x'
    assert got[-1] == [b"2", b"3"]


def test_other_encodings_are_transcoded(tmp_path: Path) -> None:
    text = "Zeit;T °C\n1;2°\n"
    for encoding in ("latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "UTF8"):
        got = read_csv(tmp_path / "a.csv", text.encode(encoding), encoding=encoding, delimiter=";")
        assert got == [[b"1", "2°".encode()]], encoding
        assert batches(tmp_path / "a.csv", encoding=encoding, delimiter=";")[0].schema.names[
            :2
        ] == ["Zeit", "T °C"]


def test_bytes_outside_the_encoding_stay_readable(tmp_path: Path) -> None:
    assert read_csv(tmp_path / "a.csv", b"a,b\n1,\xff\n") == [[b"1", b"\xff"]]
    assert read_csv(tmp_path / "a.csv", b"a,b\n1,\x81\n", encoding="cp1252") == [[b"1", b"\\x81"]]


@pytest.mark.parametrize(
    ("content", "setting", "message"),
    [
        ("T °C,b\n".encode("latin-1"), {}, "header is not UTF-8; set source.encoding to latin-1"),
        ("a,b\n1,2\n".encode("utf-16"), {}, "is UTF-16; set source.encoding to utf-16"),
        (b"a,b\n", {"encoding": "klingon"}, "klingon; set source.encoding to utf-8"),
        (b"a,b\n", {"encoding": "hex"}, "set source.encoding to utf-8"),
        (b"a,b\n", {"delimiter": "€"}, "delimiter cannot be '€'; set source.delimiter"),
        (b"a,b\n", {"delimiter": '"'}, "delimiter cannot be"),
        (b'"a,b\n1,2\n', {}, "header cannot be split into columns"),
        (b"," * 20_000, {}, "20,001 columns; at most 16,384"),
    ],
)
def test_unreadable_csv_says_what_to_set(
    content: bytes, setting: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message):
        read_csv(tmp_path / "a.csv", content, **setting)


def test_tab_is_the_default_of_tsv_alone(tmp_path: Path) -> None:
    assert read_csv(tmp_path / "a.tsv", b"a\tb\n1\t2\n") == [[b"1", b"2"]]
    assert read_csv(tmp_path / "a.tsv.gz", gzip.compress(b"a\tb\n1\t2\n", mtime=0)) == [
        [b"1", b"2"]
    ]
    assert read_csv(tmp_path / "a.tsv", b"a,b\n1,2\n", delimiter=",") == [[b"1", b"2"]]
    assert read_csv(tmp_path / "a.csv", b"a\tb\n1\t2\n") == [[b"1\t2"]]


# ------------------------------------------------------------------------- preamble, header, blanks


@quick
@given(
    preamble=st.lists(st.text('ab"é,\t'), max_size=5),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    block_bytes=st.sampled_from([1, 7, 1 << 21]),
)
def test_lines_above_the_header_are_no_rows(
    preamble: list[str], line_end: str, block_bytes: int, tmp_path: Path
) -> None:
    content = line_end.join([*preamble, "time,flow", "1,2", "3,4"]).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", block_bytes)
        got = read_csv(tmp_path / "a.csv", content, skip_lines=len(preamble))
    assert got == [[b"1", b"2"], [b"3", b"4"]]


@pytest.mark.parametrize("n_lines", [2, 3, 4, 9])
def test_preamble_as_long_as_the_file_is_refused(n_lines: int, tmp_path: Path) -> None:
    for content in (b"a,b\n1,2", b"a,b\n1,2\n", b"a,b\r\n1,2\r\n\r\n"):
        with pytest.raises(SourceError, match=f"nothing follows the {n_lines} lines"):
            read_csv(tmp_path / "a.csv", content, skip_lines=n_lines)


def test_preamble_may_be_in_another_encoding_than_a_text(tmp_path: Path) -> None:
    got = read_csv(tmp_path / "a.csv", b"\xff\x00\x81\ntime,flow\n1,2\n", skip_lines=1)
    assert got == [[b"1", b"2"]]


def test_file_without_header_has_columns_by_place_and_every_line_as_a_row(tmp_path: Path) -> None:
    got = read_csv(tmp_path / "a.csv", b'\n1,"a,b"\n3\n4,5\n', header=False)
    assert got == [[b"1", b"a,b"], "3", [b"4", b"5"]]
    assert batches(tmp_path / "a.csv", header=False)[0].schema.names[:2] == ["column 1", "column 2"]


@quick
@given(
    body=st.lists(
        st.sampled_from([b" ", b"  ", b"\t", b"1", b"ab", b"\xff", b",", b"\n", b"\r\n", b"\r"]),
        max_size=40,
    ).map(b"".join),
    block_bytes=st.sampled_from([1, 5, 1 << 21]),
)
def test_any_run_of_blanks_stands_between_two_cells(
    body: bytes, block_bytes: int, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", block_bytes)
        got = read_csv(tmp_path / "a.dat", b" t\tx  \n" + body, delimiter="whitespace")
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    cells = [line.split() for line in lines if line.split()]
    assert got == [
        row if len(row) == 2 else b" ".join(row).decode("utf-8", "backslashreplace")
        for row in cells
    ]


def test_blanks_within_quotes_stay(tmp_path: Path) -> None:
    content = b'time note\n 1  "a  b"\t\n"2 "\t5"  x\n3 "a ""b  c"""\n 4 "open  \n5 6\n'
    got = read_csv(tmp_path / "a.txt", content, delimiter="whitespace")
    assert got == [
        [b"1", b"a  b"], '"2 " 5" x', [b"3", b'a "b  c"'], '4 "open', [b"5", b"6"]
    ]  # fmt: skip


def test_nameless_column_is_called_by_its_place(tmp_path: Path) -> None:
    read_csv(tmp_path / "a.csv", b"time,,flow,\n1,2,3,4\n")
    names = batches(tmp_path / "a.csv")[0].schema.names
    assert names[:4] == ["time", "column 2", "flow", "column 4"]


def test_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.csv.gz", "wb", compresslevel=1) as stream:
        stream.write(b"time,flow\n1,2\n")
        for _ in range(40):
            stream.write(bytes(1 << 20))
    reading = read_batches(SourceFile(str(tmp_path / "a.csv.gz"), 0, 0), Source(path=""))
    before = pa.total_allocated_bytes()
    assert len(rows([next(reading)])) == 1
    with pytest.raises(SourceError, match=r"after row 1: a line is longer than 16,777,216 bytes"):
        next(reading)
    assert pa.total_allocated_bytes() - before < 1 << 24


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"time,flow\n" + b"2026-03-09 10:00:00,1.5\n" * 1_000_000)
    before = peak = pa.total_allocated_bytes()
    n_rows = 0
    for batch in read_batches(SourceFile(str(path), 0, 0), Source(path="")):
        peak = max(peak, pa.total_allocated_bytes())
        n_rows += batch.num_rows
    assert n_rows == 1_000_000
    assert peak - before < 1 << 24
