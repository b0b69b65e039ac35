"""New rows in the plant's own units, of any member of the family.

What is given and returned is a `Matrix`: windows stand one below the other, each a series of its
own, and of a model of single rows a window is a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import Bernoulli

from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import InputError
from vae_anomaly.latent.windows import batch_of, matrix_of_windows, raw_windows, restored
from vae_anomaly.models import generate as models
from vae_anomaly.models.training import one_thread
from vae_anomaly.scoring.bands import ExpectedBand, expected_band
from vae_anomaly.scoring.scorer import Scorer

__all__ = [
    "Augmented",
    "Band",
    "augment",
    "band",
    "generate",
    "interpolate",
    "normal_rows",
    "reconstruct",
    "traverse",
]


@one_thread()
def generate(
    scorer: Scorer,
    n: int,
    *,
    context: ArrayLike = (),
    label: int = 0,
    seed: int,
    mean: bool = False,
) -> Matrix:
    """New rows, or windows, from the model: z ~ p(z | c), then x ~ p(x | z, c).

    Parameters
    ----------
    scorer : Scorer
    n : int
        How many rows, or windows.
    context : array-like of shape (c,) or (n, c)
        Operating conditions in their own units, as in the columns of a matrix; only for a
        conditional model, which needs them.
    label : int
        0 for normal rows; above 0 the kind of anomaly, of a model that learnt from labels.
    seed : int
        The same seed gives the same rows.
    mean : bool
        Leave the observation noise out, as one does for images; such rows vary less than real ones.

    Returns
    -------
    Matrix
        n * window rows with every sensor that training ever observed, the context and the label.

    Raises
    ------
    InputError
        n is below 1, the context does not have the model's columns, or it has not learnt the kind.

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes.
    """
    if n < 1:
        raise InputError(f"n={n} rows are nothing to generate; give 1 or more")
    conditions = _conditions(scorer, n, context)
    generator = torch.Generator().manual_seed(seed)
    condition = batch_of(scorer, _without_sensors(scorer, conditions)).context
    z = models.prior_draw(scorer.module, condition, generator, label)
    return _decoded(scorer, z, condition, conditions, None if mean else generator, label)


@dataclass(frozen=True)
class Augmented:
    """New rows near given ones.

    Attributes
    ----------
    matrix : Matrix
        n * window rows, labelled as the given one is: normal (0) or unknown (-1); what was missing
        there is missing.
    near : ndarray of shape (n,)
        The row that each window, or row, is near.
    """

    matrix: Matrix
    near: np.ndarray


@one_thread()
def augment(
    scorer: Scorer,
    matrix: Matrix,
    n: int,
    *,
    seed: int,
    temperature: float = 1.0,
    mean: bool = False,
) -> Augmented:
    """New normal rows near given ones: z from the posterior of a row, then x ~ p(x | z, c).

    Each given row that `normal_rows` names is used equally often, give or take one. Of a Bernoulli
    likelihood the mean is taken, since its draws are 0 or 1 and the rows may lie between.

    Parameters
    ----------
    scorer : Scorer
    matrix : Matrix
        Rows to be near to.
    n : int
        How many rows, or windows.
    seed : int
        The same seed gives the same rows.
    temperature : float
        Of the posterior: 0 stays at the row's own reconstruction, more goes further away.
    mean : bool
        Leave the observation noise out.

    Returns
    -------
    Augmented

    Raises
    ------
    InputError
        n is below 1, or no row is normal and has a whole window.
    """
    rows = normal_rows(scorer, matrix)
    if n < 1 or not len(rows):
        raise InputError(
            f"n={n} rows near {len(rows)} of {len(matrix.run)} given ones; give 1 or more, and at "
            f"least one normal row with a value and {scorer.window - 1} rows of its series before"
        )
    chosen = np.random.default_rng(seed)
    turns = [chosen.permutation(rows) for _ in range(-(-n // len(rows)))]
    near = np.sort(np.concatenate(turns)[:n])
    windows = raw_windows(scorer, matrix, near)
    batch = batch_of(scorer, windows)
    generator = torch.Generator().manual_seed(seed)
    z = models.near(scorer.module, batch, generator, temperature=temperature)
    d = scorer.standardizer.n_features
    noise = None if mean or _draws_coins(scorer, z, batch.context) else generator
    drawn = _decoded(scorer, z, batch.context, windows[:, :, d:], noise)
    missing = np.isnan(windows[:, :, :d]).reshape(-1, d)
    drawn.values[:, :d][missing] = np.nan
    label = np.repeat(matrix.label[near], scorer.window)
    return Augmented(Matrix(drawn.values, drawn.run, label), near)


def _draws_coins(scorer: Scorer, z: Tensor, context: Tensor) -> bool:
    with torch.no_grad():
        return isinstance(scorer.module.likelihood(z[:1], context[:1]), Bernoulli)


def normal_rows(scorer: Scorer, matrix: Matrix) -> np.ndarray:
    """(m,) the rows with a value, a whole window and no labelled anomaly in it."""
    reach = scorer.window - 1
    seen = np.concatenate([[0], np.cumsum(matrix.label > 0)])
    here = np.arange(1, len(seen))
    anomalous = seen[here] - seen[np.maximum(here - 1 - reach, 0)]
    active = scorer.standardizer.sensors.numpy()
    has_value = ~np.isnan(matrix.values[:, active]).all(axis=1)
    rows: np.ndarray = np.flatnonzero((matrix.run >= reach) & (anomalous == 0) & has_value)
    return rows


@one_thread()
def interpolate(
    scorer: Scorer, matrix: Matrix, start: int, end: int, steps: int, *, spherical: bool = False
) -> Matrix:
    """What the model expects on the way from one row, or window, to another, ends included.

    Parameters
    ----------
    scorer : Scorer
    matrix : Matrix
        Rows of which two are the ends.
    start, end : int
        Their numbers; a window ends at them.
    steps : int
        How many, both ends among them, which are the reconstructions of the two rows.
    spherical : bool
        Along a great circle rather than straight; see `models.generate.interpolate`.

    Returns
    -------
    Matrix
        steps * window rows without observation noise; the context changes evenly.
    """
    windows = raw_windows(scorer, matrix, np.array([start, end]))
    batch = batch_of(scorer, windows)
    with torch.no_grad():
        first, last = scorer.module.embed(batch)
    z = models.interpolate(first, last, steps, spherical=spherical)
    share = torch.linspace(0, 1, steps)[:, None]
    condition = torch.lerp(batch.context[0], batch.context[1], share)
    own = windows[:, :, scorer.standardizer.n_features :]
    each = np.linspace(0, 1, steps)[:, None, None]
    return _decoded(scorer, z, condition, (1 - each) * own[0] + each * own[1])


@one_thread()
def reconstruct(scorer: Scorer, matrix: Matrix, index: ArrayLike) -> np.ndarray:
    """(m, w, d) what the model expects at some rows, or windows; a missing cell is filled."""
    batch = batch_of(scorer, raw_windows(scorer, matrix, np.asarray(index)))
    with torch.no_grad():
        z = scorer.module.embed(batch)
    return restored(scorer, models.decode(scorer.module, z, batch.context))


class Band(NamedTuple):
    """What a model expects of each sensor (m, d), in its own unit, and its standard deviation."""

    expected: np.ndarray
    sigma: np.ndarray


@one_thread()
@torch.no_grad()
def band(scorer: Scorer, matrix: Matrix, index: ArrayLike) -> Band:
    """Expected value and its standard deviation at some rows; of a window, of its last row.

    As of `Scorer.expected_band`: observation noise, and what the row leaves open of its state. A
    sensor that never varied in training has none, and a code has none either.
    """
    batch = batch_of(scorer, raw_windows(scorer, matrix, np.asarray(index)))
    width = len(scorer.standardizer.sensors)
    every = expected_band(scorer.module, batch)
    own = ExpectedBand(*(part[:, -width:] for part in every))
    expected, sigma = scorer.restored_band(own)
    return Band(expected.numpy(), sigma.numpy())


@one_thread()
def traverse(scorer: Scorer, matrix: Matrix, row: int, values: ArrayLike) -> Matrix:
    """What the model expects as each latent of a row in turn takes some values, the others held.

    Parameters
    ----------
    scorer : Scorer
    matrix : Matrix
        Rows of which one is taken.
    row : int
        Its number.
    values : array-like of shape (k, m)
        m values for each of the k latents.

    Returns
    -------
    Matrix
        k * m * window rows, latent by latent, without observation noise.

    References
    ----------
    Higgins et al. (2017), beta-VAE.
    """
    windows = raw_windows(scorer, matrix, np.array([row]))
    batch = batch_of(scorer, windows)
    with torch.no_grad():
        z = scorer.module.embed(batch)[0]
    moved = models.traverse(z, torch.as_tensor(np.asarray(values), dtype=z.dtype)).flatten(0, 1)
    n, own = len(moved), windows[:, :, scorer.standardizer.n_features :]
    condition = batch.context.expand(n, -1)
    return _decoded(scorer, moved, condition, np.repeat(own, n, axis=0))


def _decoded(
    scorer: Scorer,
    z: Tensor,
    condition: Tensor,
    context: np.ndarray,
    generator: torch.Generator | None = None,
    label: int = -1,
) -> Matrix:
    """Latents (n, k) as rows in the plant's units beside their context (n, w, c)."""
    x = models.decode(scorer.module, z, condition, generator)
    return matrix_of_windows(restored(scorer, x), context, label)


def _conditions(scorer: Scorer, n: int, context: ArrayLike) -> np.ndarray:
    """(n, w, c) the context of each row."""
    given = np.atleast_2d(np.asarray(context, dtype=np.float64))
    c = scorer.standardizer.n_context
    if given.ndim != 2 or given.shape[1] != c or len(given) not in (1, n):
        raise InputError(
            f"context of shape {np.shape(context)} for {n} rows; this model has {c} context "
            f"columns: give shape ({c},) or ({n}, {c})"
        )
    conditions: np.ndarray = np.broadcast_to(given[:, None], (n, scorer.window, c))
    return conditions


def _without_sensors(scorer: Scorer, context: np.ndarray) -> np.ndarray:
    """(n, w, d + c) rows of which only the context is known."""
    missing = np.full((*context.shape[:2], scorer.standardizer.n_features), np.nan)
    return np.concatenate([missing, context], axis=2)
