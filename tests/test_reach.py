"""Commands that start a flow, and a Prefect server that does not answer or refuses them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import write_plant
from prefect.settings import PREFECT_API_URL, temporary_settings

from vae_anomaly.cli import STEPS, main


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a Prefect server that is down, as a shell may still hold it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


@pytest.mark.parametrize("name", [*STEPS, "run", "monitor", "retrain", "serve"])
def test_server_that_is_down_is_said_in_one_sentence(
    name: str, closed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = write_plant(tmp_path, n_files=1)
    assert main([name, str(plant)]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: Prefect at {closed} does not answer")
    assert "unset PREFECT_API_URL PREFECT_API_AUTH_STRING" in said
    assert "vae-anomaly stack up" in said
    assert not (tmp_path / "lake").exists()


def test_password_in_an_address_is_not_said(
    closed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = closed.replace("//", "//ann:secret@")
    with temporary_settings({PREFECT_API_URL: url}):
        assert main(["ingest", str(write_plant(tmp_path, n_files=1))]) == 1
    assert "secret" not in capsys.readouterr().err


@pytest.mark.slow
def test_server_that_refuses_a_password_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.server import local_server

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "ann:secret")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")  # its services are clients too
    command = [sys.executable, "-m", "vae_anomaly", "ingest", str(write_plant(tmp_path, n_files=1))]
    with local_server() as address:
        monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
        for password in ("ann:wrong", ""):
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", password)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: Prefect at {address}/api refuses the password")
            assert len(done.stderr.splitlines()) == 1
