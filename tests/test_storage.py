"""Files behind a URL are found, read and known as files here are; secrets stay secret."""

from __future__ import annotations

import gzip
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyarrow import feather
from s3_server import s3_server
from test_sources import TABLE, WRITERS

from vae_anomaly.config import Source, read_plant
from vae_anomaly.data.lake import READINGS, Lake
from vae_anomaly.data.sources import SOURCES, content_digest, list_files, read_batches
from vae_anomaly.data.sources.storage import glob_pattern, open_store, public_url
from vae_anomaly.errors import SourceError
from vae_anomaly.steps.ingest import ingest

CONTENT = b"time,flow\n2026-03-09T10:00:00Z,1\n2026-03-09T10:00:01Z,2\n"

#: A folder as stores have them.
OBJECTS = {
    "in/a.csv": CONTENT,
    "in/sub/b.csv.gz": gzip.compress(CONTENT),
    "in/sub/deep/c.tsv": CONTENT.replace(b",", b"\t"),
    "in/.hidden.csv": b"",
    "in/_temporary/d.csv": b"",
    "in/e.csv.part": b"",
    "in/notes.md": b"",
    "in/line 1.csv": CONTENT,
}


def names(source: Source) -> list[str]:
    return [file.path.partition("in/")[2] for file in list_files(source)]


def rows(source: Source) -> list[int]:
    return [sum(b.num_rows for b in read_batches(f, source)) for f in list_files(source)]


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A store that knows no times of change but those of its making."""
    store = fsspec.filesystem("memory")
    for name, content in OBJECTS.items():
        store.pipe_file(f"/{name}", content)
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.mark.usefixtures("memory")
def test_folder_file_and_glob_of_a_store_give_what_they_would_here() -> None:
    everything = ["a.csv", "line 1.csv", "sub/b.csv.gz", "sub/deep/c.tsv"]
    assert names(Source(path="memory://in")) == everything
    assert names(Source(path="memory://in/a.csv")) == ["a.csv"]
    assert names(Source(path="memory://in/*.csv")) == ["a.csv", "line 1.csv"]
    assert names(Source(path="memory://in/**/*.csv*")) == [
        "_temporary/d.csv", "a.csv", "line 1.csv", "sub/b.csv.gz"
    ]  # fmt: skip
    assert names(Source(path="memory://in/s*")) == ["sub/b.csv.gz", "sub/deep/c.tsv"]
    assert names(Source(path="memory://in/**")) == everything
    assert rows(Source(path="memory://in")) == [2, 2, 2, 2]
    with pytest.raises(SourceError, match=r"nothing found at 'memory://gone'"):
        list_files(Source(path="memory://gone"))


def test_url_of_this_machine_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "line 1.csv").write_bytes(CONTENT)
    source = Source(path=(tmp_path / "line 1.csv").as_uri())
    assert list_files(source) == list_files(Source(path=str(tmp_path)))
    assert rows(source) == [2]


def test_every_source_is_read_from_a_store(
    memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    for kind in set(SOURCES) - {"delta"}:  # Delta has its own stores: see the test on S3
        WRITERS[kind](TABLE, tmp_path / kind)
        memory.pipe_file(f"/t/{kind}", (tmp_path / kind).read_bytes())
        assert rows(Source(path=f"memory://t/{kind}", format=kind)) == [60], kind


def test_changed_object_is_noticed_and_unchanged_one_is_the_same(
    memory: fsspec.AbstractFileSystem,
) -> None:
    source = Source(path="memory://in/a.csv")
    (before,) = list_files(source)
    assert list_files(source) == (before,)
    memory.pipe_file("/in/a.csv", CONTENT.replace(b"1", b"3"))
    (after,) = list_files(source)
    assert after.size == before.size
    assert after.modified_ns != before.modified_ns


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("s3://KEY:SECRET@bucket/in/a.csv", "s3://bucket/in/a.csv"),
        ("s3://bucket/a b#c.csv?region=eu-1&secret_key=x", "s3://bucket/a b#c.csv"),
        ("https://me:word@host:80/a.csv?sig=abc#x", "https://host:80/a.csv"),
        ("sftp://host/a@b.csv", "sftp://host/a@b.csv"),
        ("/data/a:b@c.csv", "/data/a:b@c.csv"),
    ],
)
def test_url_without_its_secrets(url: str, public: str) -> None:
    assert public_url(url) == public


def test_secrets_stay_out_of_errors_and_their_traces(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANT_TOKEN", "T0KEN-OF-PLANT")
    caplog.set_level(logging.DEBUG, "vae_anomaly")
    for source in (
        Source(path="http://me:PASSW0RD@127.0.0.1:9/a.csv?sig=S1GNATURE"),
        Source(path="nosuch://me:PASSW0RD@host/a.csv?sig=S1GNATURE"),
        Source(
            path="s3://K3YKEY:PASSW0RD@bucket/a.csv?region=us-east-1",
            storage={"endpoint_override": "127.0.0.1:9", "scheme": "http",
                     "session_token": "${PLANT_TOKEN}", "connect_timeout": "${PLANT_TOKEN}"},
        ),
    ):  # fmt: skip
        with pytest.raises(SourceError) as caught:
            list_files(source)
        told = "".join(traceback.format_exception(caught.value)) + caplog.text
        assert "PASSW0RD" not in told
        assert "S1GNATURE" not in told
        assert "K3YKEY" not in told
        assert "T0KEN" not in told


def test_option_from_an_empty_environment_is_refused() -> None:
    source = Source(path="memory://in", storage={"key": "${NO_SUCH_NAME}"})
    with pytest.raises(SourceError, match="environment has no NO_SUCH_NAME"):
        open_store(source)


def test_glob_takes_stars_within_a_name_and_two_stars_across_folders() -> None:
    assert glob_pattern("b/*/a?.csv").match("b/x/a1.csv")
    assert not glob_pattern("b/*/a?.csv").match("b/x/y/a1.csv")
    assert glob_pattern("b/**/[ab].csv").match("b/a.csv")
    assert glob_pattern("b/*x*y*").match("b/1x2y3/z.csv")
    assert not glob_pattern("b/*x*y*").match("b/1x/2y3")


# ---------------------------------------------------------------------------------- a server of S3


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """Storage options of an S3 server of our own, with the objects in the bucket `plant`."""
    with s3_server() as place:
        options = {
            "endpoint_override": place, "scheme": "http", "region": "us-east-1",
            "access_key": "K3YKEY", "secret_key": "PASSW0RD",
        }  # fmt: skip
        store = pafs.S3FileSystem(**options, allow_bucket_creation=True)
        store.create_dir("plant")
        for name, content in OBJECTS.items():
            with store.open_output_stream(f"plant/{name}", compression=None) as stream:
                stream.write(content)
        yield options


@pytest.mark.slow
def test_s3_is_listed_read_and_known(s3: dict[str, str], tmp_path: Path) -> None:
    source = Source(path="s3://plant/in", storage=s3)
    assert names(source) == ["a.csv", "line 1.csv", "sub/b.csv.gz", "sub/deep/c.tsv"]
    assert names(Source(path="s3://plant/in/sub/*", storage=s3)) == [
        "sub/b.csv.gz",
        "sub/deep/c.tsv",
    ]
    assert rows(source) == [2, 2, 2, 2]
    file = list_files(source)[0]
    assert file == list_files(source)[0]
    assert file.path == "s3://plant/in/a.csv"
    assert abs(time.time_ns() - file.modified_ns) < 600e9
    store = open_store(source)
    for name, write in (("t.parquet", pq.write_table), ("t.feather", feather.write_feather)):
        write(TABLE, tmp_path / name)
        with store.files.open_output_stream(f"plant/typed/{name}") as stream:
            stream.write((tmp_path / name).read_bytes())
    assert rows(Source(path="s3://plant/typed", storage=s3)) == [60, 60]


@pytest.mark.slow
def test_delta_table_on_s3_is_one_file(s3: dict[str, str]) -> None:
    options = {
        "AWS_ENDPOINT_URL": f"http://{s3['endpoint_override']}", "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "K3YKEY", "AWS_SECRET_ACCESS_KEY": "PASSW0RD",
        "AWS_REGION": "us-east-1", "aws_conditional_put": "etag",
    }  # fmt: skip
    write_deltalake("s3://plant/delta/t", TABLE, storage_options=options)
    for source in (
        Source(path="s3://plant/delta/t", storage=s3, format="delta"),
        Source(path="s3://plant/delta", storage=s3),
    ):
        (file,) = list_files(source)
        assert (file.path, file.size) == ("s3://plant/delta/t", 0)
        assert len(content_digest(file, source)) == 64
        assert rows(source) == [60]
    with pytest.raises(SourceError, match="s3://plant/none is no Delta table"):
        list_files(Source(path="s3://plant/none", storage=s3, format="delta"))


@pytest.mark.slow
def test_ingest_from_s3_leaves_no_secret_in_lake_or_log(
    s3: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = {k: v for k, v in s3.items() if not k.endswith("_key")}
    plant_file = tmp_path / "plant.yml"
    plant_file.write_text(
        "name: remote\n"
        f"source: {{path: 's3://K3YKEY:PASSW0RD@plant/in', settle_s: 0, storage: {storage}}}\n"
        "contract: {time: time, sensors: [flow]}\n"
    )
    plant = read_plant(plant_file)
    report = ingest(plant)
    assert (report.counts.n_read, report.counts.n_accepted) == (8, 8)
    table = Lake(plant.lake, plant.contract).open(READINGS).to_pyarrow_table()
    assert set(table["asset"].to_pylist()) == {"a", "b", "c", "line 1"}
    assert len(ingest(plant).with_status("unchanged")) == 4
    kept = [path for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    for path in kept:
        assert b"PASSW0RD" not in path.read_bytes(), path
    assert "PASSW0RD" not in caplog.text
