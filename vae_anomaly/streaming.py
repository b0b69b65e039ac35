"""The hot path: readings (Arrow) → scorer (torch) → verdicts (Arrow).

Flow, command line, MLflow and Python all come through `judge`, so the same row gets the same
verdict whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from vae_anomaly.config import Contract
from vae_anomaly.data.aside import any_of, set_aside
from vae_anomaly.data.sensor_faults import SensorLimits, faulty_cells
from vae_anomaly.data.windows import Matrix, matrix_of
from vae_anomaly.decisions.conformal import conformal_p_values
from vae_anomaly.decisions.modes import Levels, Per, known_modes
from vae_anomaly.decisions.thresholds import Threshold
from vae_anomaly.errors import InputError, PackageError
from vae_anomaly.explanations import changed_constants, fault_names, top_sensors
from vae_anomaly.scoring.counterfactual import Counterfactual, counterfactual
from vae_anomaly.scoring.scorer import Scorer

__all__ = [
    "EVERY_ASSET",
    "STATUSES",
    "VERDICT_SCHEMA",
    "Judge",
    "explain",
    "is_scored",
    "judge",
    "learnt_levels",
    "levelled",
    "places",
    "score_rows",
]

#: Key of the one judge of a plant whose model is shared by all its assets.
EVERY_ASSET = "*"

#: What a verdict can say of a row.
STATUSES = ("normal", "anomaly", "unseen_mode", "off", "not_scored")

#: A contribution is in the unit of the score, to which those of all sensors sum; a share is that of
#: the contributions above 0, of what speaks against the row. A direction is high, low, frozen,
#: missing, as expected, or of a categorical sensor ``not <the expected level>``; the expected value
#: of such a sensor is the place of that level in the contract, from 0. Sensor faults are those of
#: `data.sensor_faults`, such as ``flow: stuck``, whether the row is anomalous or not.
VERDICT_SCHEMA = pa.schema(
    [
        ("asset", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("score", pa.float32()),
        ("threshold", pa.float32()),
        ("p_value", pa.float32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("mode", pa.string()),
        ("top_sensors", pa.list_(pa.string())),
        ("top_contributions", pa.list_(pa.float64())),
        ("top_shares", pa.list_(pa.float64())),
        ("top_directions", pa.list_(pa.string())),
        ("top_expected", pa.list_(pa.float64())),
        ("constant_changed", pa.list_(pa.string())),
        ("sensor_faults", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Judge:
    """A scorer with its threshold and the calibration scores that p-values refer to.

    Attributes
    ----------
    scorer : Scorer
    threshold : Threshold
    reference : ndarray of shape (n_calibration,)
        Rising scores of the normal calibration rows.
    levels : Levels or None
        Of the modes or assets with thresholds of their own; the other two are of levelled scores.
    limits : SensorLimits
        When a sensor is at fault itself, and what it has read.
    """

    scorer: Scorer
    threshold: Threshold
    reference: np.ndarray
    levels: Levels | None = None
    limits: SensorLimits = field(default_factory=SensorLimits)


@dataclass(frozen=True)
class Scores:
    """Score (n,) and contributions (n, d) of each row, in float32."""

    score: np.ndarray
    contributions: np.ndarray


def score_rows(scorer: Scorer, matrix: Matrix) -> Scores:
    """Score each row of a matrix, with the left context that the matrix holds."""
    with torch.inference_mode():
        score, contributions = scorer(*_tensors(matrix))
    return Scores(score.numpy(), contributions.numpy())


def is_scored(scorer: Scorer, matrix: Matrix) -> np.ndarray:
    """(n,) whether a row has a value of any sensor that is judged; the others get no score."""
    active = np.flatnonzero(scorer.standardizer.active.numpy())
    scored: np.ndarray = ~np.isnan(matrix.values[:, active]).all(axis=1)
    return scored


def learnt_levels(scorer: Scorer, contract: Contract) -> dict[str, tuple[str, ...]]:
    """Levels of each categorical context column that had rows in training.

    The standardiser knows: a column that was 0 in every row has centre 0 and no spread.
    """
    if not contract.categories:
        return {}
    standardizer = scorer.standardizer
    unused = standardizer.scale.isinf() & (standardizer.center == 0)
    learnt, at = {}, len(contract.sensors)
    for entry in contract.context:
        if entry.kind == "categorical":
            used = ~unused[at : at + len(entry.levels)]
            learnt[entry.name] = tuple(
                level for level, is_used in zip(entry.levels, used.tolist(), strict=True) if is_used
            )
        at += len(entry.levels) or 1
    return learnt


def judge(
    table: pa.Table,
    judges: Mapping[str, Judge],
    contract: Contract,
    *,
    threshold: float | None = None,
) -> pa.Table:
    """Verdicts on readings.

    Parameters
    ----------
    table : pa.Table
        Readings sorted by asset and time; left context included, that of the limits too.
    judges : mapping of str to Judge
        One for `EVERY_ASSET`, or one an asset.
    contract : Contract
        Names the sensors and the context.
    threshold : float, optional
        Replaces the calibrated threshold.

    Returns
    -------
    pa.Table
        One verdict a row, in the order of the rows; columns of `VERDICT_SCHEMA`.
    """
    if EVERY_ASSET in judges:
        return _judge_rows(table, judges[EVERY_ASSET], contract, threshold)
    pieces: list[pa.Table] = []
    for asset in pc.unique(table["asset"]).to_pylist():
        own = table.filter(pc.field("asset") == asset)
        if asset in judges:
            pieces.append(_judge_rows(own, judges[asset], contract, threshold))
        else:
            pieces.append(_not_scored(own, f"no model was trained for asset '{asset}'"))
    return pa.concat_tables(pieces) if pieces else VERDICT_SCHEMA.empty_table()


def explain(
    table: pa.Table,
    judges: Mapping[str, Judge],
    contract: Contract,
    *,
    threshold: float | None = None,
) -> Counterfactual:
    """The smallest change that makes the last of some readings normal.

    Parameters
    ----------
    table : pa.Table
        Readings of one asset, sorted by time: the one that is meant, and those before it.
    judges, contract, threshold
        As for `judge`.

    Returns
    -------
    Counterfactual
        Of the readings that the last one is judged with; sensors in the order of the contract.

    Raises
    ------
    InputError
        There is no row, there are several assets, or the last row is not judged.
    """
    if not table.num_rows:
        raise InputError("no row is given; give the row, and those of its asset before it")
    assets = pc.unique(table["asset"]).to_pylist()
    if len(assets) != 1:
        raise InputError(
            f"{table.num_rows} rows of {len(assets)} assets are given, and one row is explained; "
            "give it last, after those of its asset that stand before it"
        )
    by = judges.get(EVERY_ASSET) or judges.get(assets[0])
    if by is None:
        raise InputError(f"no model was trained for asset '{assets[0]}'")
    asides = set_aside(table, contract, learnt_levels(by.scorer, contract), known_modes(by.levels))
    taken = any_of(asides, table.num_rows)
    matrix = matrix_of(table, contract, taken)
    if taken[-1] or not is_scored(by.scorer, matrix)[-1]:
        raise InputError("the last row gets no score, and its verdict says why; give another one")
    series = matrix.values[len(matrix.run) - 1 - matrix.run[-1] :]
    limit = float(_limits(table, by, threshold)[-1])
    return counterfactual(by.scorer, torch.from_numpy(series), threshold=limit)


def _judge_rows(table: pa.Table, by: Judge, contract: Contract, override: float | None) -> pa.Table:
    asides = set_aside(table, contract, learnt_levels(by.scorer, contract), known_modes(by.levels))
    taken = any_of(asides, table.num_rows) if asides else None
    matrix = matrix_of(table, contract, taken)
    scores = score_rows(by.scorer, matrix)
    limit = _limits(table, by, override)
    scored = is_scored(by.scorer, matrix)
    if taken is not None:
        scored &= ~taken
    if not np.isfinite(scores.score[scored]).all():
        raise PackageError("the scorer gave a score that is not finite; the package is unusable")
    anomalous = (scores.score > limit) & scored
    status = np.where(scored, np.where(anomalous, "anomaly", "normal"), "not_scored")
    status = status.astype(object) if asides else status
    faults = [
        cells if taken is None else cells.but(taken)
        for cells in faulty_cells(table, matrix.run, contract.sensors, by.limits)
    ]
    n = table.num_rows
    reason = pa.array(np.full(n, "no sensor of the model has a value"), mask=scored)
    for entry in asides:
        status[entry.mask] = entry.status
        reason = pc.if_else(pa.array(entry.mask), entry.reason, reason)
    columns = {
        "asset": table["asset"],
        "time": table["time"],
        "score": pa.array(scores.score, pa.float32(), mask=~scored),
        "threshold": pa.array(limit, pa.float32()),
        "p_value": pa.array(
            conformal_p_values(levelled(scores.score, table, by.levels), by.reference),
            pa.float32(),
            mask=~scored,
        ),
        "status": pa.array(status, pa.string()),
        "reason": reason,
        "mode": table["mode"] if "mode" in table.column_names else pa.nulls(n, pa.string()),
        **top_sensors(
            by.scorer,
            matrix,
            scores.contributions,
            np.flatnonzero(anomalous),
            contract,
            faults,
            by.limits,
        ),
        "constant_changed": changed_constants(by.scorer, matrix, contract),
        "sensor_faults": fault_names(faults, contract, n),
    }
    return pa.table(columns, schema=VERDICT_SCHEMA)


def levelled(score: np.ndarray, table: pa.Table, levels: Levels | None) -> np.ndarray:
    """(n,) scores that one threshold is for, whatever the mode or asset of the rows of a table."""
    if levels is None:
        return score
    return levels.levelled(score.astype(np.float64), places(table, levels.per, levels.names))


def places(table: pa.Table, per: Per, names: Sequence[str]) -> np.ndarray:
    """(n,) place of each row's mode or asset among names; -1 where it is none of them."""
    found: np.ndarray = pc.fill_null(
        pc.index_in(table[per].cast(pa.string()), value_set=pa.array(names, pa.string())), -1
    ).to_numpy()
    return found


def _limits(table: pa.Table, by: Judge, override: float | None) -> np.ndarray:
    """(n,) float32 threshold of each row."""
    if override is not None or by.levels is None:
        value = by.threshold.value if override is None else override
        return np.full(table.num_rows, np.float32(value))
    return by.levels.limits(by.threshold.value, places(table, by.levels.per, by.levels.names))


def _not_scored(table: pa.Table, reason: str) -> pa.Table:
    n = table.num_rows
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        field.name: pa.nulls(n, field.type) for field in VERDICT_SCHEMA
    }
    columns |= {
        name: table[name] for name in ("asset", "time", "mode") if name in table.column_names
    }
    columns["status"] = pa.repeat("not_scored", n)
    columns["reason"] = pa.repeat(reason, n)
    return pa.table(columns, schema=VERDICT_SCHEMA)


def _tensors(matrix: Matrix) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(matrix.values), torch.from_numpy(matrix.run)
