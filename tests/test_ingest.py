"""Whatever bytes lie in the source: each row read ends in one place, and the tables agree."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_packed import PACKERS
from test_sources import WRITERS

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import FILES, QUARANTINE, READINGS, Lake, rows
from vae_anomaly.errors import SourceError
from vae_anomaly.steps.ingest import ingest

TABLE = pa.table(
    {
        "time": [f"2026-03-09 10:00:{i // 2:02}" for i in range(60)],
        "asset": ["a", "b"] * 30,
        "flow": [None if i % 7 == 0 else i / 4 for i in range(60)],
    }
)
#: Endings of the kinds of files; a Delta table is a folder, cut within.
KINDS = {"csv": ".csv", "parquet": ".parquet", "arrow": ".arrow", "excel": ".xlsx"}


def _written(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        WRITERS[kind](TABLE, Path(folder) / "table")
        return (Path(folder) / "table").read_bytes()


GOOD = {kind: _written(kind) for kind in KINDS}
TSV = GOOD["csv"].replace(b",", b"\t").replace(b'"', b"")


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """A file, whole or cut somewhere, with some of its bytes replaced."""

    def change(length: int, places: list[int], pieces: list[bytes]) -> bytes:
        found = bytearray(content[:length])
        for place, piece in zip(places, pieces, strict=False):
            found[place : place + 1] = piece
        return bytes(found)

    return st.builds(
        change,
        st.just(len(content)) | st.integers(0, len(content)),
        st.lists(st.integers(0, len(content) - 1), max_size=4),
        st.lists(st.sampled_from([b'"', b"\n", b"", b"\xff", b",", b"7", b" "]), max_size=4),
    )


contents = st.one_of(
    st.tuples(st.just(".csv"), st.binary(max_size=200)),
    st.tuples(st.just(".csv"), mutated(GOOD["csv"])),
    st.tuples(st.just(".tsv"), mutated(TSV)),
    st.tuples(st.just(".dat"), mutated(TSV.replace(b"\t", b"  "))),
    *(st.tuples(st.just(ending), mutated(GOOD[kind])) for kind, ending in KINDS.items()),
    *(
        st.tuples(st.just(f".csv{ending}"), mutated(pack(GOOD["csv"])))
        for ending, pack in PACKERS.items()
    ),
)
dialects = st.fixed_dictionaries(
    {},
    optional={
        "delimiter": st.sampled_from([",", ";", "\t", "whitespace", " "]),
        "encoding": st.sampled_from(["utf-8", "latin-1", "utf-16"]),
        "skip_lines": st.integers(0, 3),
        "header": st.booleans(),
        "decimal": st.sampled_from([".", ","]),
        "format": st.sampled_from(["auto", "csv", "parquet", "arrow", "excel"]),
    },
)


def check_counts(files: list[tuple[str, bytes]], dialect: dict[str, object]) -> None:
    """Ingest the files twice; every count must be that of the rows that are there."""
    header = dialect.get("header", True)
    columns = ("time", "asset", "flow") if header else ("column 1", "column 2", "column 3")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        for number, (ending, content) in enumerate(files):
            (Path(folder) / f"in/{number}{ending}").write_bytes(content)
        plant = PlantConfig.model_validate(
            {
                "name": "any",
                "lake": f"{folder}/lake",
                "source": {"path": f"{folder}/in", "settle_s": 0} | dialect,
                "contract": {
                    "time": {"column": columns[0], "zone": "UTC"},
                    "asset": columns[1],
                    "sensors": [columns[2]],
                },
            }
        )
        try:
            report = ingest(plant)
        except SourceError as error:
            if "nothing found" not in str(error):  # no file of this format is in the folder
                raise
            return
        counts = report.counts
        assert counts.complete
        lake = Lake(plant.lake, plant.contract)
        found = {
            name: [row for batch in rows(lake.writable(name)) for row in batch.to_pylist()]
            for name in (READINGS, QUARANTINE, FILES)
        }
        assert len(found[READINGS]) == counts.n_accepted
        assert len(found[QUARANTINE]) == counts.n_quarantined == sum(report.reasons.values())
        assert sum(row["n_read"] for row in found[FILES]) == counts.n_read
        for status in ("accepted", "quarantined", "duplicate"):
            told = sum(row[f"n_{status}"] for row in found[FILES])
            assert told == getattr(counts, f"n_{status}"), status
        again = ingest(plant)
        assert again.counts.n_read == 0
        assert len(again.with_status("unchanged")) == len(report.files)


@settings(max_examples=30)
@given(files=st.lists(contents, min_size=1, max_size=2), dialect=dialects)
def test_any_files_in_any_dialect_are_rows_or_quarantined(
    files: list[tuple[str, bytes]], dialect: dict[str, object]
) -> None:
    check_counts(files, dialect)


@pytest.mark.slow
@settings(max_examples=600)
@given(files=st.lists(contents, min_size=1, max_size=3), dialect=dialects)
def test_many_more_files_in_any_dialect_are_rows_or_quarantined(
    files: list[tuple[str, bytes]], dialect: dict[str, object]
) -> None:
    check_counts(files, dialect)


def test_file_whose_reader_was_not_installed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS["excel"](TABLE, tmp_path / "a.xlsx")
    plant = PlantConfig.model_validate(
        {
            "name": "any",
            "lake": str(tmp_path / "lake"),
            "source": {"path": str(tmp_path / "a.xlsx"), "settle_s": 0},
            "contract": {
                "time": {"column": "time", "zone": "UTC"}, "asset": "asset", "sensors": ["flow"]
            },
        }
    )  # fmt: skip
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "python_calamine", None)
        (report,) = ingest(plant).files
        assert report.status == "quarantined"
        assert "vae-anomaly[excel]" in str(report.reason)
    assert ingest(plant).counts.n_accepted == 60
