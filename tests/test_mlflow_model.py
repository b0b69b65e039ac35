"""The MLflow model scores exactly as the package that it holds, wherever it is loaded."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import sealed
from mlflow.models import Model
from mlflow.pyfunc.model import PythonModelContext

from vae_anomaly.errors import InputError
from vae_anomaly.mlflow_model import PackageModel
from vae_anomaly.package import ModelPackage
from vae_anomaly.streaming import VERDICT_SCHEMA
from vae_anomaly.tracking.model import SCORING_PACKAGES, requirements, signature, write_model

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "package"
    sealed.seal(folder)
    return folder


@pytest.fixture(scope="module")
def model_dir(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "model"
    write_model(folder, package, sealed.CONTRACT, Model())
    return folder


@pytest.fixture(scope="module")
def loaded(model_dir: Path) -> mlflow.pyfunc.PyFuncModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        return mlflow.pyfunc.load_model(str(model_dir))


@pytest.fixture(scope="module")
def direct(package: Path) -> PackageModel:
    model = PackageModel()
    model.load_context(PythonModelContext({"package": str(package)}, {}))
    return model


def frame(n: int = 40) -> pd.DataFrame:
    return sealed.rows(n).to_pandas()


# ------------------------------------------------------------------------------- the same numbers


def test_scores_are_bit_equal_to_the_package(
    loaded: mlflow.pyfunc.PyFuncModel, package: Path
) -> None:
    expected = ModelPackage.read(package).score(sealed.rows(40)).to_pandas()
    pd.testing.assert_frame_equal(loaded.predict(frame()), expected, check_exact=True)
    assert set(expected["status"]) >= {"normal", "anomaly"}


def test_threshold_is_replaced_for_one_call_only(loaded: mlflow.pyfunc.PyFuncModel) -> None:
    before = loaded.predict(frame())
    low = loaded.predict(frame(), params={"threshold": -1e9})
    assert (low["threshold"] == np.float32(-1e9)).all()
    assert set(low["status"]) == {"anomaly"}
    pd.testing.assert_frame_equal(loaded.predict(frame(), params={"threshold": None}), before)


def test_verdicts_keep_order_and_index(loaded: mlflow.pyfunc.PyFuncModel) -> None:
    table = frame()
    shuffled = table.sample(frac=1, random_state=0)
    verdicts = loaded.predict(shuffled)
    assert list(verdicts.index) == list(shuffled.index)
    pd.testing.assert_frame_equal(verdicts.sort_index(), loaded.predict(table))


def test_missing_entries_may_be_none_nan_or_a_whole_column(
    loaded: mlflow.pyfunc.PyFuncModel,
) -> None:
    table = frame(6)
    table["PT-101"] = np.nan
    expected = loaded.predict(table)
    table["PT-101"] = None
    pd.testing.assert_frame_equal(loaded.predict(table), expected)


def test_asset_and_mode_may_be_left_out(loaded: mlflow.pyfunc.PyFuncModel) -> None:
    verdicts = loaded.predict(frame().drop(columns=["pump", "mode"]))
    assert len(verdicts) == 40


def test_narrow_numbers_are_widened(direct: PackageModel) -> None:
    table = frame().astype({"speed": "float32", "PT-101": "float32"})
    verdicts = direct.predict(None, table)
    wide = direct.predict(None, table.astype({"speed": "float64", "PT-101": "float64"}))
    pd.testing.assert_frame_equal(verdicts, wide)


# ------------------------------------------------------------------------------------ clear errors


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"treshold": 1.0}, "did you mean 'threshold'"),
        ({"threshold": float("nan")}, "must be a finite number"),
        ({"threshold": "high"}, "must be a finite number"),
        ({"threshold": True}, "must be a finite number"),
    ],
)
def test_parameter_that_cannot_be_meant_is_refused(
    direct: PackageModel, params: dict, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        direct.predict(None, frame(), params)


def test_missing_column_is_named(direct: PackageModel) -> None:
    with pytest.raises(InputError, match="'PT-101' is missing; did you mean 'PT_101'"):
        direct.predict(None, frame().rename(columns={"PT-101": "PT_101"}))


def test_text_where_numbers_belong_is_refused(direct: PackageModel) -> None:
    with pytest.raises(InputError, match=r"'PT-101' must hold numbers.*broken"):
        direct.predict(None, frame().assign(**{"PT-101": "broken"}))


def test_column_that_is_there_twice_is_refused(direct: PackageModel) -> None:
    table = frame()
    with pytest.raises(InputError, match="'speed' is there twice"):
        direct.predict(None, pd.concat([table, table[["speed"]]], axis=1))


def test_mlflow_names_a_missing_sensor_and_what_came_instead(
    loaded: mlflow.pyfunc.PyFuncModel,
) -> None:
    with pytest.raises(mlflow.MlflowException, match=r"missing inputs \['PT-101'\].*PT_101"):
        loaded.predict(frame().rename(columns={"PT-101": "PT_101"}))


# ------------------------------------------------------------------------------ what lies in it


def test_signature_says_what_goes_in_and_what_comes_out(loaded: mlflow.pyfunc.PyFuncModel) -> None:
    found = loaded.metadata.signature
    assert found.to_dict() == signature(sealed.CONTRACT).to_dict()
    inputs = [(column.name, column.type.name, column.required) for column in found.inputs]
    assert inputs == [
        ("when", "datetime", True),
        ("pump", "string", False),
        ("mode", "string", False),
        ("PT-101", "double", True),
        ("flow (RMS)", "double", True),
        ("speed", "double", True),
    ]
    assert found.outputs.input_names() == VERDICT_SCHEMA.names
    types = dict(zip(VERDICT_SCHEMA.names, map(str, found.outputs.input_types()), strict=True))
    assert types["score"] == "DataType.float"
    assert types["time"] == "DataType.datetime"
    assert types["top_sensors"] == "Array(string)"
    assert json.loads(found.to_dict()["params"]) == [
        {"name": "threshold", "type": "double", "default": None, "shape": None}
    ]


def test_nothing_of_this_machine_and_no_pickle_lies_in_it(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_model(folder, package, sealed.CONTRACT, Model())
    own = [str(path).encode() for path in (ROOT, Path.home(), package.parent, tmp_path)]
    own += [b"/tmp/", os.uname().nodename.encode()]
    for file in folder.rglob("*"):
        assert "__pycache__" not in file.parts
        assert file.suffix not in (".pkl", ".pickle", ".pt", ".pth")
        if file.is_file() and "code" not in file.parts:
            content = file.read_bytes()
            assert not [path for path in own if path in content], file
    assert {p.name: p.read_bytes() for p in (folder / "artifacts/package").iterdir()} == {
        p.name: p.read_bytes() for p in package.iterdir()
    }


def test_requirements_are_what_scoring_imports(model_dir: Path) -> None:
    """Every library that mlflow_model imports, however deep, is required; and no other is."""
    modules, libraries = {"vae_anomaly.mlflow_model"}, set[str]()
    waiting = list(modules)
    while waiting:
        for name in imports_on_load(waiting.pop()):
            if name.split(".")[0] != "vae_anomaly":
                libraries.add(name.split(".")[0])
            elif name not in modules:
                modules.add(name)
                waiting.append(name)
    distributions = metadata.packages_distributions()
    libraries -= set(sys.stdlib_module_names)
    # mlflow's names belong to two distributions, of which the small one is enough
    needed = {distributions[name][0].lower() for name in libraries - {"mlflow"}}
    assert set(SCORING_PACKAGES) == {*needed, "mlflow-skinny", "tzdata"}
    written = (model_dir / "requirements.txt").read_text().split()
    assert written == requirements()
    assert not [line for line in written if "+" in line or "==" not in line]


def imports_on_load(module: str) -> set[str]:
    """Modules that importing a module of ours imports; those inside a function do not count."""
    place = ROOT / Path(*module.split("."))
    file = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
    found: set[str] = set()
    text = file.read_text() if file.is_file() else ""  # a folder without __init__.py
    waiting: list[ast.stmt] = list(ast.parse(text).body)
    for node in waiting:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                name
                for name in inner
                if (ROOT / Path(*name.split("."))).with_suffix(".py").is_file()
            }
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.ClassDef):
            waiting += [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)]
    parents = {name.rpartition(".")[0] for name in found if name.startswith("vae_anomaly.")}
    return found | {name for name in parents if name}


# --------------------------------------------------------------------------------- somewhere else

ELSEWHERE = """
import sys
import mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
verdicts = model.predict(pandas.read_parquet(sys.argv[2]))
verdicts.to_parquet(sys.argv[3])
import vae_anomaly
assert vae_anomaly.__file__.startswith(sys.argv[1]), vae_anomaly.__file__
"""


@pytest.mark.slow
def test_bare_environment_with_only_the_requirements_gives_the_same_bits(
    model_dir: Path, loaded: mlflow.pyfunc.PyFuncModel, tmp_path: Path
) -> None:
    python = tmp_path / "bare" / "bin" / "python"
    venv.create(tmp_path / "bare", with_pip=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    if (ROOT / "constraints.txt").is_file():
        environment["PIP_CONSTRAINT"] = str(ROOT / "constraints.txt")
    listed = model_dir / "requirements.txt"
    install = [str(python), "-m", "pip", "install", "--quiet", "-r", str(listed)]
    subprocess.run(install, check=True, env=environment, cwd=tmp_path)
    table = frame()
    table.to_parquet(tmp_path / "rows.parquet")
    arguments = [str(model_dir), str(tmp_path / "rows.parquet"), str(tmp_path / "verdicts.parquet")]
    subprocess.run(
        [str(python), "-W", "error::DeprecationWarning:vae_anomaly", "-c", ELSEWHERE, *arguments],
        check=True,
        env=environment,
        cwd=tmp_path,
    )
    verdicts = pd.read_parquet(tmp_path / "verdicts.parquet")
    pd.testing.assert_frame_equal(verdicts, loaded.predict(table), check_dtype=False)
    assert (verdicts["score"].to_numpy() == loaded.predict(table)["score"].to_numpy()).all()
