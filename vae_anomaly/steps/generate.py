"""A model → new rows of the plant, drawn from it, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vae_anomaly import latent
from vae_anomaly.config import Contract, PlantConfig
from vae_anomaly.data.as_read import as_read, sensor_table
from vae_anomaly.data.lake import Lake
from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import InputError, closest
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.steps.chosen import CHAMPION, chosen, scorer_of
from vae_anomaly.steps.latent_pictures import draw_generated, image_shape, labels
from vae_anomaly.steps.made import Made, check_ending, write_table
from vae_anomaly.steps.told_apart import CAVEAT, apart, real_windows

__all__ = ["clipped_note", "conditions", "generate", "numbered"]


#: Sensors that a note names.
MOST_NAMES = 5


def generate(  # noqa: PLR0913 (each is an option of the command)
    plant: PlantConfig,
    out: Path,
    *,
    n: int = 1000,
    context: Mapping[str, str] | None = None,
    label: int = 0,
    asset: str = "",
    model: str = CHAMPION,
    mean: bool = False,
    seed: int = 0,
    image: Sequence[int] = (),
) -> Made:
    """Draw new rows, or windows, from a model.

    They are held against real rows that the model was not trained on, unless the context was given.

    Parameters
    ----------
    plant : PlantConfig
    out : Path
        Table to write, .csv or .parquet; the picture goes beside it.
    n : int
        How many rows, or windows.
    context : mapping of str to str, optional
        Operating conditions that are to hold; those that are not given are those of real rows.
    label : int
        0 for normal rows; above 0 the kind of anomaly, of a model that learnt from labels.
    asset : str
        Whose model, where each asset has its own.
    model : str
        The champion, a version, an alias, or the folder of a package.
    mean : bool
        Leave the observation noise out.
    seed : int
        The same seed gives the same rows.
    image : sequence of int
        Height and width, where a row is an image and the model does not say so itself.

    Returns
    -------
    Made

    Raises
    ------
    InputError
        The context is not the contract's, or the ending of `out` is not known.
    """
    check_ending(out)
    found = chosen(plant, model)
    contract, scorer = found.package.contract, scorer_of(found.package, asset)
    image_shape(scorer, image)
    lake = Lake(plant.lake, plant.contract)
    real = real_windows(lake, found.package, scorer, asset)
    given = dict(context or {})
    condition = conditions(contract, scorer, real.held_out, n, given, seed=seed)
    drawn = latent.generate(scorer, n, context=condition, label=label, seed=seed, mean=mean)
    made = as_read(drawn, contract)
    reason = _why_not(given, label, mean)
    figures = {} if reason else apart(scorer, made.matrix, real, seed=seed)
    table = numbered(sensor_table(made.matrix, contract), scorer.window, "sample")
    d = scorer.standardizer.n_features
    written = {"rows": write_table(table, out)}
    written["picture"] = draw_generated(
        out.with_suffix(".png"), scorer, made.matrix,
        real.held_out.values[: 0 if given or label else None, :d], labels(contract),
        subject=plant.name, note="means, without observation noise" if mean else "", image=image,
    )  # fmt: skip
    what = "rows" if scorer.window == 1 else f"windows of {scorer.window} rows"
    notes = [*clipped_note(made.n_clipped), *([CAVEAT] * bool(figures))]
    if not figures:
        notes.append(f"not held against real rows: {reason or 'this lake has too few of them'}")
    kind = f" of kind {label}" if label else ""
    summary = f"{n:,} {what}{kind} drawn from {found.name}, seed {seed}."
    return Made("Generate", summary, written, figures, tuple(notes))


def _why_not(given: Mapping[str, str], label: int, mean: bool) -> str:
    """Why rows are not to be held against real ones; empty where they are."""
    if given:
        return f"those have another context than {', '.join(given)}"
    if label:
        return f"those are normal, and these of kind {label}"
    return "those have noise" if mean else ""


def numbered(table: pa.Table, window: int, name: str) -> pa.Table:
    """A table with the number of each window in front and, of windows, the row within.

    Examples
    --------
    >>> numbered(pa.table({"flow": [1.0, 2.0]}), 2, "sample").column_names
    ['sample', 'row', 'flow']
    """
    at = np.arange(table.num_rows)
    columns: dict[str, pa.Array] = {name: pa.array(at // window)}
    if window > 1:
        columns["row"] = pa.array(at % window)
    return pa.table({**columns, **{c: table[c] for c in table.column_names}})


def clipped_note(n_clipped: Mapping[str, int]) -> list[str]:
    """Which cells were taken back to the physical range."""
    if not n_clipped:
        return []
    most = sorted(n_clipped.items(), key=lambda pair: -pair[1])
    said = ", ".join(f"{sensor} {count:,}" for sensor, count in most[:MOST_NAMES])
    rest = most[MOST_NAMES:]
    if rest:
        said += f", and {sum(n for _, n in rest):,} of {len(rest)} other sensors"
    return [f"cells beyond the sensor's range, set to its limit: {said}"]


def conditions(
    contract: Contract,
    scorer: Scorer,
    real: Matrix,
    n: int,
    given: Mapping[str, str],
    *,
    seed: int,
) -> np.ndarray:
    """(n, c) the context of each row: what is given, and for the rest that of real windows.

    Raises
    ------
    InputError
        A name or a level is not the contract's, or there are no real windows to take it from.
    """
    for name in given:
        if name not in contract.context_names:
            names = contract.context_names
            hint = closest(name, names) if names else "this model has no context"
            raise InputError(f"--context {name}={given[name]}: {hint}")
    own = real.values[scorer.window - 1 :: scorer.window, scorer.standardizer.n_features :]
    lacking = [name for name in contract.context_names if name not in given]
    if lacking and not len(own):
        raise InputError(
            f"this lake has no rows of the model to take {', '.join(lacking)} from; give --context"
        )
    if len(own):
        context = own[np.random.default_rng(seed).integers(len(own), size=n)]
    else:
        context = np.zeros((n, contract.context_width))
    at = 0
    for entry in contract.context:
        width = len(entry.levels) or 1
        if entry.name in given:
            context[:, at : at + width] = _coded(entry.name, given[entry.name], entry.levels)
        at += width
    return context


def _coded(name: str, text: str, levels: tuple[str, ...]) -> list[float]:
    """A value as the columns of a matrix have it: a number, or 1 for the level that holds."""
    if levels:
        if text not in levels:
            raise InputError(f"--context {name}={text}: {closest(text, levels)}")
        return [float(text == level) for level in levels]
    try:
        return [float(text)]
    except ValueError:
        raise InputError(f"--context {name}={text} is no number") from None
