"""The command line: quick to answer, clear when wrong, and every command in the README."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from crash import write_plant

from vae_anomaly.cli import COMMANDS, main
from vae_anomaly.config import read_plant
from vae_anomaly.scoring.baselines import BASELINES, CHANCE
from vae_anomaly.steps.ingest import ingest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "pandas", "mlflow", "prefect", "sklearn", "pyarrow", "deltalake", "numpy")


def command(*arguments: str | Path, **kwargs: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vae_anomaly", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | kwargs,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"vae-anomaly {name}" in said.partition("example:")[2]


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        assert re.search(rf"vae-anomaly {name}\b", text), name


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom vae_anomaly.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_looking_at_tables_and_ingesting_import_no_model(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    code = (
        "import sys\nfrom vae_anomaly.cli import main\n"
        f"for name in ('ingest', 'history', 'alarms'): main([name, {str(plant)!r}])\n"
        "print([name for name in ('torch', 'mlflow', 'prefect') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr.splitlines()[0] == "Ingest …", "a sign of life where no bar is drawn"


def cpu_seconds(*arguments: str | Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_and_a_wrong_file_answer_at_once(tmp_path: Path) -> None:
    assert min(cpu_seconds("--help") for _ in range(3)) < 0.25
    plant = tmp_path / "plant.yml"
    plant.write_text("name: x\n")
    assert min(cpu_seconds("run", plant) for _ in range(3)) < 0.5


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("demo", "init", "stack")])
def test_wrong_plant_file_is_said_in_one_piece(name: str, tmp_path: Path) -> None:
    more = {
        "explain": ["9ec0ed"],
        "archive": ["3"],
        "backfill": ["--from", "2026-03-01", "--to", "2026-03-02"],
    }.get(name, [])
    missing = command(name, tmp_path / "nothing.yml", *more)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: ")
    assert "does not exist" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_table_that_is_not_there_names_the_command_that_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = write_plant(tmp_path, n_files=1)
    for step in ("ingest", "score"):
        assert main(["alarms", str(plant)]) == 1
        assert f"run `vae-anomaly {step}` on this plant first" in capsys.readouterr().err
        ingest(read_plant(plant))


def test_models_of_a_new_plant_are_none_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", str(write_plant(tmp_path, n_files=1))]) == 0
    said = capsys.readouterr().out
    assert "0 versions of crash yet; `vae-anomaly run` registers the first." in said
    assert not (tmp_path / "lake").exists()


@pytest.mark.slow
def test_lake_in_a_bucket_without_keys_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = write_plant(tmp_path, n_files=1)
    plant.write_text(plant.read_text() + "lake: s3://nobody/pumps\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    nowhere = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    done = command("alarms", plant, **nowhere)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: the store of s3://nobody/pumps refuses the credentials; set AWS")


@pytest.mark.slow
def test_ingest_prints_its_counts(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=2)
    done = command("ingest", plant)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"\d+ rows read = \d+ accepted \+ \d+ quarantined \+ \d+ duplicate", done.stdout
    )
    again = command("ingest", plant)
    assert "0 rows read" in again.stdout
    assert "2 unchanged" in again.stdout


@pytest.mark.slow
def test_source_that_holds_nothing_is_said(tmp_path: Path) -> None:
    done = command("ingest", write_plant(tmp_path, n_files=1), "--source", tmp_path / "none/*.csv")
    assert done.returncode == 1
    assert "none/*.csv" in done.stderr


@pytest.mark.slow
def test_demo_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = command("demo", "--folder", tmp_path)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def _figures(text: str) -> dict[str, float]:
    """The first number of each line of the demo's last table."""
    table = text.partition("Every count equals what was planted.\n")[2].partition("\n\n")[0]
    lines = re.findall(r"^ *(\S.*?) {2,}([\d,.]+)", table.partition("```")[0], flags=re.MULTILINE)
    return {name: float(number.replace(",", "")) for name, number in lines}


@pytest.mark.slow
def test_demo_does_the_whole_loop(tmp_path: Path) -> None:
    done = command("demo", "--folder", tmp_path / "demo", COLUMNS="100")
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "Every count equals what was planted." in said
    areas = dict(re.findall(r"AUROC on test rows, (\w+) +([\d.]+) \(", said))
    assert set(areas) == {"gaussian", *BASELINES, CHANCE}
    assert float(areas["gaussian"]) > max(float(areas[n]) for n in areas if n != "gaussian")
    assert float(areas["gaussian"]) > 0.88
    named = re.search(r"planted sensor named first +(\d+)%", said)
    assert named is not None
    assert int(named[1]) > 80
    printed, shown = (_figures(text) for text in (said, (ROOT / "README.md").read_text("utf-8")))
    assert printed.keys() == shown.keys()
    for name, value in shown.items():  # another processor may round otherwise
        assert printed[name] == pytest.approx(value, rel=0.1, abs=2 if value > 1 else 0.01), name
    for path in re.findall(r"(?:plant file|pictures) +(\S+)", said):
        assert (Path.cwd() / path).exists(), path
    models = command("models", tmp_path / "demo/plant.yml")
    assert "champion" in models.stdout
