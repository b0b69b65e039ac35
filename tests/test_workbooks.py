"""Sheets become batches: types by column, rows without the empty ones, one sheet by name."""

from __future__ import annotations

import sys
from datetime import date, datetime, time
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import openpyxl
import pyarrow as pa
import pytest

from vae_anomaly.config import Source
from vae_anomaly.data import sheets
from vae_anomaly.data.sources import SourceFile, read_batches, workbooks
from vae_anomaly.errors import SourceError

#: Smallest OpenDocument sheet: a header and a row.
ODS = (
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>'
    '<table:table table:name="S">'
    '<table:table-row><table:table-cell office:value-type="string"><text:p>time</text:p>'
    '</table:table-cell><table:table-cell office:value-type="string"><text:p>flow</text:p>'
    "</table:table-cell></table:table-row>"
    '<table:table-row><table:table-cell office:value-type="date" '
    'office:date-value="2026-03-09T10:00:00"><text:p>9.3.</text:p></table:table-cell>'
    '<table:table-cell office:value-type="float" office:value="1.5"><text:p>1,5</text:p>'
    "</table:table-cell></table:table-row>"
    "</table:table></office:spreadsheet></office:body></office:document-content>"
)

MANIFEST = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"

Cell = str | float | bool | datetime | date | time | None


def write(path: Path, rows: list[list[Cell]], *, sheet: str = "S") -> None:
    book = openpyxl.load_workbook(path) if path.exists() else openpyxl.Workbook()
    found = book.create_sheet(sheet) if path.exists() else book.active
    found.title = sheet
    for at, row in enumerate(rows, 1):
        for column, cell in enumerate(row, 1):
            found.cell(at, column, cell)
    book.save(path)


def read(path: Path, **settings: object) -> pa.Table:
    source = Source.model_validate({"path": str(path)} | settings)
    return pa.Table.from_batches(list(read_batches(SourceFile(str(path), 0, 0), source)))


def test_columns_are_numbers_times_truths_or_texts(tmp_path: Path) -> None:
    write(
        tmp_path / "a.xlsx",
        [
            ["time", "flow", "open", "note", "none"],
            [datetime(2026, 3, 9, 10, 0, 0, 125_000), 1, True, "a", None],
            [date(2026, 3, 10), 2.5, False, 7, None],
            [None, None, None, 7.25, None],
        ],
    )
    table = read(tmp_path / "a.xlsx")
    assert table.schema.types[:5] == [
        pa.timestamp("us"), pa.float64(), pa.bool_(), pa.binary(), pa.binary()
    ]  # fmt: skip
    assert table["time"].to_pylist() == [
        datetime(2026, 3, 9, 10, 0, 0, 125_000), datetime(2026, 3, 10), None
    ]  # fmt: skip
    assert table["flow"].to_pylist() == [1.0, 2.5, None]
    assert table["open"].to_pylist() == [True, False, None]
    assert table["note"].to_pylist() == [b"a", b"7", b"7.25"]
    assert table["none"].null_count == 3


def test_preamble_is_left_out_and_empty_rows_are_none(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [["plant 7"], [None], [None, "t", "x"], [None], [None, 1, 2], [None]]
    write(tmp_path / "a.xlsx", [*rows, [None, 3, 4]])
    table = read(tmp_path / "a.xlsx", skip_lines=1)
    assert table.column_names[:3] == ["column 1", "t", "x"]
    assert table["x"].to_pylist() == [2.0, 4.0]
    assert table["_row"].to_pylist() == [1, 2]


def test_sheet_without_header_has_columns_by_place(tmp_path: Path) -> None:
    write(tmp_path / "a.xlsx", [[1, 2], [3, 4]])
    table = read(tmp_path / "a.xlsx", header=False)
    assert table.column_names[:2] == ["column 1", "column 2"]
    assert table["column 2"].to_pylist() == [2.0, 4.0]


def test_sheet_is_found_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.xlsx", [["a"], [1]], sheet="first")
    write(tmp_path / "a.xlsx", [["b"], [2]], sheet="second")
    assert read(tmp_path / "a.xlsx").column_names[0] == "a"
    assert read(tmp_path / "a.xlsx", sheet="second").column_names[0] == "b"
    with pytest.raises(SourceError, match="no sheet 'secnd'; did you mean 'second'"):
        read(tmp_path / "a.xlsx", sheet="secnd")


def test_open_document_is_read(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.ods", "w", ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", f"<m:manifest xmlns:m='{MANIFEST}'/>")
        archive.writestr("content.xml", ODS)
    table = read(tmp_path / "a.ods")
    assert table["time"].to_pylist() == [datetime(2026, 3, 9, 10)]
    assert table["flow"].to_pylist() == [1.5]


def test_sheet_of_too_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.xlsx", [["a"], [1], [2]])
    monkeypatch.setattr(sheets, "MAX_ROWS", 2)
    with (
        (tmp_path / "a.xlsx").open("rb") as stream,
        pytest.raises(SourceError, match="its sheet has 3 rows; at most 2"),
    ):
        list(sheets.read_sheet(stream, Source(path=""), 100))


def test_archive_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.xlsx", [["a"], [1], [2]])
    monkeypatch.setattr(sheets, "MAX_UNPACKED_BYTES", 1000)
    with (
        (tmp_path / "a.xlsx").open("rb") as stream,
        pytest.raises(SourceError, match="bytes unpacked: save its rows as CSV"),
    ):
        list(sheets.read_sheet(stream, Source(path=""), 100))


def test_absent_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.xlsx", [["a"], [1]])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(SourceError, match=r"pip install 'vae-anomaly\[excel\]'"):
        read(tmp_path / "a.xlsx")


def with_rows(path: Path, rows: bytes) -> None:
    """A sheet with a header, and these rows as they stand in its XML."""
    write(path, [["a"]])
    with ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(part for part in parts if part.endswith("sheet1.xml"))
    parts[name] = parts[name].replace(b"</sheetData>", rows + b"</sheetData>")
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for part, content in parts.items():
            archive.writestr(part, content)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits for processes")
def test_sheet_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    last = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'  # 17 billion cells on
    with_rows(tmp_path / "a.xlsx", last)
    with pytest.raises(SourceError, match="more than 6 GiB of memory to open; save its sheet"):
        read(tmp_path / "a.xlsx")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits for processes")
def test_workbook_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_rows(tmp_path / "a.xlsx", (b"<row>" + b"<c><v>1.5</v></c>" * 30 + b"</row>") * 200_000)
    monkeypatch.setattr(workbooks, "CPU_S", 1)
    monkeypatch.setattr(workbooks, "CPU_S_PER_BYTE", 0)
    with pytest.raises(SourceError, match="not open after 1 CPU-seconds; save its sheet"):
        read(tmp_path / "a.xlsx")


def test_reader_ends_with_the_one_who_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.xlsx", [["a"], *([[1.5]] * 5000)])
    file = SourceFile(str(tmp_path / "a.xlsx"), (tmp_path / "a.xlsx").stat().st_size, 0)
    batches = read_batches(file, Source(path=file.path), batch_rows=10)
    assert next(batches).num_rows <= 10
    batches.close()  # and no process, pipe or warning is left
