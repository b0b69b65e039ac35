"""The MLflow model around a sealed package: what a server needs to load it, and nothing else.

Loading it needs no pickle, no installed vae_anomaly, and nothing of the machine that made it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import mlflow.pyfunc
import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from vae_anomaly.config import Contract
from vae_anomaly.streaming import VERDICT_SCHEMA
from vae_anomaly.tracking.names import column, quoted

__all__ = ["PACKAGE", "requirements", "signature", "upload_model", "write_model"]

#: Where the package lies in the MLflow model.
PACKAGE = "artifacts/package"

#: What scoring imports; tzdata is for the zones that a slim container lacks.
SCORING_PACKAGES = (
    "mlflow-skinny",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scipy",
    "torch",
    "tzdata",
)


def upload_model(
    client: MlflowClient,
    run_id: str,
    package_dir: Path,
    contract: Contract,
    tags: Mapping[str, str],
) -> LoggedModel:
    """Upload a sealed package as the MLflow model of a run; one uploaded before will do.

    It is READY at the very end only, so that what a kill cut short is never taken for a model.

    Parameters
    ----------
    client : MlflowClient
    run_id : str
        Run that trained it; the model goes into its experiment.
    package_dir : Path
    contract : Contract
        The package's; it gives the signature.
    tags : mapping of str to str
        What the model is found by, and what it carries as metadata.
    """
    run = client.get_run(run_id).info
    wanted = " and ".join(f"tags.`{name}` = {quoted(value)}" for name, value in tags.items())
    for known in client.search_logged_models([run.experiment_id], wanted):
        if known.status == LoggedModelStatus.READY:
            return known
    name = re.sub(
        r"[/:.%\"']", "_", run.run_name or run_id
    )  # what MLflow refuses in a model's name
    model = client.create_logged_model(run.experiment_id, name, run_id, tags=dict(tags))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "model")
        entry = Model(run_id=run_id, model_id=model.model_id, metadata=dict(tags))
        write_model(folder, package_dir, contract, entry)
        client.log_model_artifacts(model.model_id, str(folder))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def write_model(folder: Path, package_dir: Path, contract: Contract, entry: Model) -> None:
    """Write an MLflow model into an empty folder.

    Parameters
    ----------
    folder : Path
        Made if need be.
    package_dir : Path
        The sealed package.
    contract : Contract
        The package's; it gives the signature.
    entry : Model
        Names the run and the logged model that this will be.
    """
    library = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        # rows of the plant are no example to be handed round
        warnings.filterwarnings("ignore", message="(?s).*input example was not provided")
        code, package = Path(temporary, library.name), Path(temporary, "package")
        shutil.copytree(library, code, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(package_dir, package)
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=entry,
            python_model=str(library / "mlflow_model.py"),
            code_paths=[str(code)],
            artifacts={"package": str(package)},
            signature=signature(contract),
            pip_requirements=requirements(),
        )
    _forget_this_machine(folder / "MLmodel")


def requirements() -> list[str]:
    """What scoring needs, at the installed versions; a build such as +cpu is on no index."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in SCORING_PACKAGES]


def signature(contract: Contract) -> ModelSignature:
    """What `mlflow_model` takes and gives.

    Every sensor and context column must be there, though its entries may be missing: MLflow drops
    unknown columns, and a misspelt optional one would be scored as missing throughout.
    """
    texts = [contract.asset_column or "asset"] + ([contract.mode] if contract.mode else [])
    inputs = [
        ColSpec(DataType.datetime, contract.time.column),
        *(ColSpec(DataType.string, name, required=False) for name in texts),
        *(
            ColSpec(
                DataType.string if sensor.kind == "categorical" else DataType.double, sensor.name
            )
            for sensor in (*contract.sensors, *contract.context)
        ),
        *(
            ColSpec(DataType.string if kind == "text" else DataType.double, name)
            for name, kind in contract.carried.items()
        ),
    ]
    outputs = [column(entry.name, str(entry.type)) for entry in VERDICT_SCHEMA]
    params = ParamSchema([ParamSpec("threshold", DataType.double, None)])
    return ModelSignature(Schema([*inputs]), Schema([*outputs]), params)


def _forget_this_machine(file: Path) -> None:
    """Make the paths in MLmodel relative; MLflow writes those that it copied from."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    flavor = content["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
