"""What MLflow runs to serve a version: a sealed package behind `predict`, and no pickle.

MLflow executes this file when it loads the model ('models from code'). It lies in the model beside
a copy of vae_anomaly, so a server that has never heard of this project can load it.
"""

from __future__ import annotations

import math

import mlflow.models
import pandas as pd
import pyarrow as pa
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from vae_anomaly.config import Contract
from vae_anomaly.errors import InputError, closest
from vae_anomaly.package import ModelPackage

#: What a caller may set at prediction.
PARAMS = ("threshold",)


class PackageModel(PythonModel):
    """A model package in MLflow's terms: a table of rows in, a table of verdicts out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the package, which verifies its hashes and scores its golden rows again."""
        self.package = ModelPackage.read(context.artifacts["package"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, float | None] | None = None,
    ) -> pd.DataFrame:
        """Verdicts on the rows of a table, in their order and with their index.

        Parameters
        ----------
        context : PythonModelContext
            Not used; the package was read when the model was loaded.
        model_input : DataFrame
            The contract's columns by the names that they have in the source; NaN = missing. Times
            without a zone are UTC.
        params : dict, optional
            ``threshold`` replaces the calibrated threshold; None keeps it.

        Returns
        -------
        DataFrame
            Columns of `streaming.VERDICT_SCHEMA`.

        Raises
        ------
        InputError
            A parameter is not known, or a column is missing or cannot be read.
        """
        threshold = _threshold(params or {})
        table = _table(model_input, self.package.contract)
        verdicts: pd.DataFrame = self.package.score(table, threshold=threshold).to_pandas()
        return verdicts.set_axis(model_input.index, axis=0)


def _threshold(params: dict[str, float | None]) -> float | None:
    for name in params:
        if name not in PARAMS:
            raise InputError(f"parameter '{name}' is not known; {closest(name, PARAMS)}")
    value = params.get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"threshold={value!r} must be a finite number; leave it out to keep ours")
    return float(value)


def _table(frame: pd.DataFrame, contract: Contract) -> pa.Table:
    """The frame as Arrow, its numbers in float64."""
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"column '{twice}' is there twice; keep one of them")
    numbers = {
        sensor.name: _numbers(frame[sensor.name], sensor.name)
        for sensor in (*contract.sensors, *contract.context)
        if sensor.kind != "categorical" and sensor.name in frame.columns
    }
    for name, kind in contract.carried.items():
        if kind == "number" and name in frame.columns:
            numbers[name] = _numbers(frame[name], name)
    return pa.Table.from_pandas(frame.assign(**numbers), preserve_index=False)


def _numbers(column: pd.Series, name: str) -> pd.Series:
    try:
        return pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"column '{name}' must hold numbers, empty where missing: {error}"
        ) from error


mlflow.models.set_model(PackageModel())
