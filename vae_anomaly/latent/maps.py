"""Where rows lie in the latent space, and maps of it in two dimensions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import InputError
from vae_anomaly.latent.windows import batch_of, raw_windows, refuse_misfits
from vae_anomaly.models.training import one_thread
from vae_anomaly.scoring.scorer import BLOCK_ROWS, Scorer

__all__ = ["Kind", "embed", "map_of"]

#: How the latents become two: linear, or so that neighbours stay neighbours.
Kind = Literal["pca", "tsne"]

#: Neighbours that t-SNE keeps together (van der Maaten & Hinton 2008: 5 to 50).
PERPLEXITY = 30.0


@one_thread()
@torch.no_grad()
def embed(scorer: Scorer, matrix: Matrix, index: np.ndarray | None = None) -> np.ndarray:
    """(n, k) the latents that stand for each row: posterior means, or codes; float32.

    Parameters
    ----------
    scorer : Scorer
    matrix : Matrix
        Rows; what lies before the first window of a series is missing.
    index : ndarray of shape (n,), optional
        The rows that are meant; all by default.

    Raises
    ------
    InputError
        There are no rows.
    """
    meant = np.arange(len(matrix.run)) if index is None else index
    if not len(meant):
        raise InputError("there are no rows to embed; give at least one")
    refuse_misfits(scorer, matrix, meant)
    if 2 * len(meant) > len(matrix.run):  # most of them: then all, whose windows share rows
        every = scorer.embed(torch.from_numpy(matrix.values), torch.from_numpy(matrix.run))
        own: np.ndarray = every.numpy()[meant]
        return own
    pieces = []
    for start in range(0, len(meant), BLOCK_ROWS):
        rows = meant[start : start + BLOCK_ROWS]
        block = np.resize(rows, BLOCK_ROWS)  # one size, so that the bits do not depend on it
        z = scorer.module.embed(batch_of(scorer, raw_windows(scorer, matrix, block)))
        pieces.append(z[: len(rows)])
    latents: np.ndarray = torch.cat(pieces).numpy()
    return latents


def map_of(latents: np.ndarray, kind: Kind, *, seed: int = 0) -> np.ndarray:
    """(n, 2) rows on a map: their first principal components, or t-SNE.

    Parameters
    ----------
    latents : ndarray of shape (n, k)
    kind : {"pca", "tsne"}
        Distances on a PCA map are those of the latents, as far as two components hold them; on a
        t-SNE map only neighbours mean something. t-SNE of n rows takes seconds for 2,000.
    seed : int
        Of t-SNE.

    References
    ----------
    van der Maaten & Hinton (2008), Visualizing Data using t-SNE.

    Examples
    --------
    >>> abs(map_of(np.array([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), "pca")).round(6)
    array([[1., 0.],
           [1., 0.]])
    """
    if kind not in ("pca", "tsne"):
        raise InputError(f"map '{kind}' is not known; give pca or tsne")
    n, k = latents.shape
    values = latents.astype(np.float64)
    if min(n, k) < 2 or (kind == "tsne" and n < 5):  # too few for a plane: what there is
        plane = np.zeros((n, 2))
        plane[:, : min(k, 2)] = values[:, :2]
        return plane
    # importing them moves Python's global random state, which importing the package must not
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if kind == "pca":
        points: np.ndarray = PCA(n_components=2, svd_solver="full").fit_transform(values)
        return points
    learnt = TSNE(perplexity=min(PERPLEXITY, (n - 1) / 3), init="pca", random_state=seed, n_jobs=1)
    points = learnt.fit_transform(values)
    return points.astype(np.float64)
