"""plant.yml and mlflow.yml: what is wrong is named, with what is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.config import (
    Contract,
    MlflowConfig,
    Parts,
    PlantConfig,
    Training,
    model,
    read_mlflow,
    read_plant,
    settings_digest,
)
from vae_anomaly.errors import ConfigError
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.baselines import BASELINES

ROOT = Path(__file__).parents[1]
PLANT = {
    "name": "pumps",
    "source": {"path": "incoming"},
    "contract": {"time": "time", "sensors": ["flow", {"name": "pressure", "unit": "bar"}]},
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "plant.yml"
    path.write_text(yaml.safe_dump(PLANT | changes))
    return path


def test_paths_are_relative_to_the_plant_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    plant = read_plant(write(tmp_path / "site", lake="../lakes/a"))
    assert plant.source.path == str(tmp_path / "site/incoming")
    assert plant.lake == str(tmp_path / "lakes/a")
    assert read_plant(write(tmp_path / "site")).lake == str(tmp_path / "site/lake/pumps")
    monkeypatch.chdir(tmp_path)
    other = read_plant("site/plant.yml", source="new/*.csv")
    assert other.source.path == str(tmp_path / "new/*.csv")
    assert other.lake == str(tmp_path / "site/lake/pumps")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windw": 3}, "windw: unknown key; did you mean 'window'?"),
        ({"source": {"path": "x", "delimitter": ";"}}, "did you mean 'delimiter'"),
        ({"training": {"epoch": 3}}, "training.epoch: unknown key; did you mean 'epochs'"),
        ({"source": {}}, "source: path is missing"),
        ({"name": "a b"}, "name: 'a b' must begin with a letter or a digit"),
        ({"name": "ab\n"}, "only letters, digits and _ . -"),
        (
            {"model": "gaussian"},
            "is a section; write its keys, as in model: {variant: gau",
        ),
        (
            {"source": "sqlite://me:pw@a"},
            "is a section; write its keys, as in source: {path: …}",
        ),
        ({"training": [1]}, "is a section; write its keys, as in training: {epochs: …}"),
        (
            {"exclusions": {"start": "x"}},
            "is a list; begin each of its entries with a dash",
        ),
        ({"exclusions": ["x"]}, "exclusions.0: is a section; write its keys, as in - {start: x}"),
        (
            {"exclusions": [{"start": "yesterday", "end": "2026-03-01T00:00Z"}]},
            "exclusions.0.start: 'yesterday' is no moment; write a time with its zone: 2026-03-01T",
        ),
        ({"run_condition": "speed > 1"}, "run_condition: unknown key; it belongs under contract"),
        ({"calibration": {"epochs": 3}}, "calibration.epochs: unknown key; it belongs under train"),
        ({"contract": {"time": {"column": "t", "zone": "Mars"}, "sensors": ["a"]}}, "zone 'Mars'"),
        ({"contract": {"time": "t", "sensors": ["a", "a"]}}, "column 'a' is named twice"),
        ({"contract": {"time": "t", "sensors": []}}, "contract.sensors"),
        ({"contract": {"time": "t", "sensors": [{"name": "a", "low": 2, "high": 1}]}}, "not below"),
        ({"contract": {"time": "t", "sensors": ["ingest"]}}, "the lake's own"),
        (
            {"contract": {"time": "t", "sensors": [{"name": "v", "kind": "categorical"}]}},
            "needs its levels",
        ),
        (
            {
                "contract": {
                    "time": "t",
                    "sensors": [{"name": "v", "kind": "categorical", "levels": ["a", "b"]}],
                },
                "model": {"variant": "gaussian"},
            },
            "no likelihood",
        ),
        ({"parts": {"train": 0.9}}, "it must be 1"),
        ({"parts": {"listed": [{"part": "train"}]}}, "no entry for part 'stop'"),
        ({"parts": {"listed": [{"part": "train", "share": [0.5, 0.2]}]}}, "must rise"),
        ({"parts": {"train": 0.5, "listed": [{"part": "train"}]}}, "keep one of them"),
        ({"schedule": {"score": "hourly"}}, "not a cron line"),
        ({"training": {"min_steps": 10, "max_steps": 5}}, "is above max_steps"),
        ({"model": {"variant": "gausian"}}, "'gausian' is not known; did you mean 'gaussian'?"),
        ({"model": {"baseline": "pac"}}, "baseline 'pac' is not known; did you mean 'pca'?"),
        ({"model": {"variant": "vq", "baseline": "pca"}}, "two models; leave one out"),
        ({"model": {"baseline": "pca", "settings": {"k": 3}}}, "takes no settings"),
        ({"model": {"baseline": "pca", "score": "labels"}}, "takes no settings and no score"),
        ({"model": {"baseline": "pca", "labels": "strict"}}, "learns nothing from labels"),
        ({"model": {"labels": "all"}}, "should be 'default', 'strict' or 'off'"),
        ({"model": {"baseline": "pca"}, "training": {"augment": 1}}, "makes no rows to train on"),
        ({"smoothing": 2}, "smoothing: 2 must be a rate above 0 and at most 1, or 'auto'"),
        ({"smoothing": "slow"}, "smoothing: 'slow' must be a rate"),
        ({"smoothing": True}, "smoothing: True must be a rate"),
        ({"window": 0}, "window: 0 must be a whole number of rows, at least 1, or 'auto'"),
        ({"window": 2.5}, "window: 2.5 must be a whole number of rows"),
        ({"window": True}, "window: True must be"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plant(write(tmp_path, **changes))
    assert message in str(caught.value)
    assert "plant.yml is not valid" in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_baseline_takes_the_place_of_the_variant_and_is_read_again_as_written(
    tmp_path: Path,
) -> None:
    plant = read_plant(write(tmp_path, model={"baseline": "pca", "per": "asset"}))
    assert (plant.method, plant.method_kind) == ("pca", "baseline pca")
    assert PlantConfig.model_validate(plant.model_dump()) == plant


def test_names_that_plant_files_may_give_are_those_of_the_models() -> None:
    assert set(model.MEMBERS) == set(VARIANTS)
    assert set(model.BASELINES) == set(BASELINES)


def test_auto_is_the_member_that_suits_the_rows(tmp_path: Path) -> None:
    def member(**changes: object) -> str:
        return read_plant(write(tmp_path, **changes)).method_kind

    valve = {"name": "v", "kind": "categorical", "levels": ["open", "shut"]}
    assert member() == "gaussian VAE"
    assert member(window="auto") == member(smoothing=0.3) == "ensemble VAE"
    assert member(contract={"time": "t", "sensors": ["a", valve]}) == "mixed VAE"
    assert member(window=4, model={"variant": "vq"}) == "vq VAE"


def test_labels_may_be_switched_off_by_a_bare_word(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "model: {labels: off}\n")
    assert read_plant(path).model.labels == "off"


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plant(write(tmp_path, windw=3, source={}, parts={"train": 0.9}))
    assert all(part in str(caught.value) for part in ("windw", "path is missing", "it must be 1"))


@pytest.mark.parametrize("text", ["", "- a", "name: [", "\x00", "3"])
def test_files_that_hold_no_settings_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plant.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"plant\.yml"):
        read_plant(path)
    with pytest.raises(ConfigError, match="does not exist"):
        read_plant(tmp_path / "none.yml")


@pytest.mark.parametrize("content", [b"time,flow\n1,2\n", b"PAR1\x15\x04\x80\xff"])
def test_data_in_place_of_a_plant_file_are_told_by_their_ending(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    shown = os.path.relpath(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match=rf"`vae-anomaly init {shown}` writes the plant file"):
        read_plant(tmp_path / "a.csv")
    (tmp_path / "plant.yml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_plant(tmp_path / "plant.yml")
    assert "init" not in str(caught.value)


def test_configuration_cannot_be_changed(tmp_path: Path) -> None:
    plant = read_plant(write(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        plant.window = 3  # type: ignore[misc]


@given(st.lists(st.floats(0.05, 1), min_size=4, max_size=4))
def test_shares_cover_all_rows_once(shares: list[float]) -> None:
    whole = sum(shares)
    train, stop, calibrate = (share / whole for share in shares[:3])
    ranges = Parts(
        train=train, stop=stop, calibrate=calibrate, test=1 - train - stop - calibrate
    ).ranges()
    edges = [edge for entry in ranges for edge in entry.share]
    assert edges[0] == 0
    assert edges[-1] == 1
    assert edges[1:-1:2] == edges[2:-1:2]


def test_digest_follows_the_content_and_nothing_else() -> None:
    one, two = (Contract(time="t", sensors=("a", "b")) for _ in range(2))
    assert settings_digest(one) == settings_digest(two)
    assert settings_digest(one) != settings_digest(Contract(time="t", sensors=("b", "a")))
    assert settings_digest(Training()) != settings_digest(Training(epochs=31))


def test_public_plant_files_are_valid() -> None:
    for path in (ROOT / "data/plants").glob("*.yml"):
        assert read_plant(path).name == path.stem


# ------------------------------------------------------------------------------------- mlflow.yml


def test_mlflow_yml_of_the_project_is_the_default(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "mlflow.yml").read_text())
    assert MlflowConfig.model_validate(content) == MlflowConfig()


def test_mlflow_is_found_beside_the_plant_or_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a/b"
    folder.mkdir(parents=True)
    (tmp_path / "mlflow.yml").write_text("experiment: 'site-{plant}'\n")
    plant = read_plant(write(folder))
    found = read_mlflow(plant)
    assert found.experiment == "site-pumps"
    assert found.tracking_uri == f"sqlite:///{plant.lake}/mlflow/mlflow.db"
    assert found.registry_uri == found.tracking_uri
    (folder / "mlflow.yml").write_text("experiment: nearer\n")
    assert read_mlflow(read_plant(folder / "plant.yml")).experiment == "nearer"
    named = write(folder, mlflow="../../mlflow.yml")
    assert read_mlflow(read_plant(named)).experiment == "site-pumps"


def test_standard_variables_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    found = read_mlflow(read_plant(write(tmp_path)))
    assert (found.tracking_uri, found.experiment) == ("http://127.0.0.1:5000", "mine")


def test_unknown_template_is_refused(tmp_path: Path) -> None:
    plant = PlantConfig.model_validate(PLANT | {"mlflow": str(tmp_path / "mlflow.yml")})
    (tmp_path / "mlflow.yml").write_text("experiment: '{site}'\n")
    with pytest.raises(ConfigError, match=r"only \{plant\}, \{lake\} and \{work\} exist"):
        read_mlflow(plant)
