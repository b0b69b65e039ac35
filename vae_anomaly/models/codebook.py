"""A codebook: vectors that stand for what lies near them, learned by moving averages.

Each code is the mean of the vectors that were lately assigned to it, so that a step of learning is
one of k-means on a stream (van den Oord et al. 2017, Neural Discrete Representation Learning,
appendix A.1). A code to which almost nothing is assigned any more is dead: it is drawn anew from
what it should have stood for (Dhariwal et al. 2020, Jukebox, section 3.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_anomaly.models.networks import LANES

__all__ = ["Codebook", "perplexity", "straight_through", "usage"]

#: Pseudo-count of the Laplace-smoothed sizes (van den Oord's own code takes 1e-5).
SMOOTHING = 1e-5

#: A code is dead below this share of the use that it would have if all were used alike.
DEAD = 0.1


class Codebook(nn.Module):
    """K vectors of width e, and how much was lately assigned to each; all of it buffers.

    Parameters
    ----------
    n_codes : int
        Number K of codes.
    code_dim : int
        Width e of a code's vector.
    decay : float
        Share of the moving averages that a step keeps.

    Examples
    --------
    >>> codebook = Codebook(2, 1)
    >>> codebook.vectors.copy_(torch.tensor([[-1.0], [1.0]]))
    tensor([[-1.],
            [ 1.]])
    >>> codebook.nearest(torch.tensor([[0.2], [-3.0], [0.0]]))  # the first of two that are as near
    tensor([1, 0, 0])
    """

    vectors: Tensor
    size: Tensor
    total: Tensor
    n_revived: Tensor

    def __init__(self, n_codes: int, code_dim: int, *, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("vectors", torch.randn(n_codes, code_dim))
        self.register_buffer("size", torch.zeros(n_codes))
        self.register_buffer("total", torch.zeros(n_codes, code_dim))
        self.register_buffer("n_revived", torch.zeros((), dtype=torch.int64))

    def forward(self, codes: Tensor) -> Tensor:
        """Vectors of codes (*), as (*, e)."""
        return self.vectors[codes]

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """The code nearest to each vector (*, e), as (*) int64; of several, the first."""
        spare = -len(self.vectors) % LANES  # a row's bits must not depend on its place
        vectors = functional.pad(self.vectors, (0, 0, 0, spare))
        squares = self.vectors.square().sum(dim=-1)
        squares = functional.pad(squares, (0, spare), value=math.inf)
        flat = z.reshape(-1, z.shape[-1])
        # |z - v|² without |z|², which is the same for all codes: (n, K)
        distances = torch.addmm(squares, flat, vectors.T, alpha=-2)
        return distances.argmin(dim=-1).reshape(z.shape[:-1])

    @torch.no_grad()
    def learn(self, z: Tensor, codes: Tensor) -> None:
        """Move the averages towards vectors (*, e) and the codes (*) that they were assigned to."""
        K = len(self.vectors)
        assigned = functional.one_hot(codes.reshape(-1), K).to(z.dtype)  # (n, K)
        self.size.lerp_(assigned.sum(dim=0), 1 - self.decay)
        self.total.lerp_(assigned.T @ z.reshape(-1, z.shape[-1]), 1 - self.decay)
        n = self.size.sum()
        smoothed = (self.size + SMOOTHING) / (n + K * SMOOTHING) * n
        self.vectors.copy_(self.total / smoothed[:, None])

    @torch.no_grad()
    def revive(self, z: Tensor, generator: torch.Generator) -> None:
        """Draw dead codes from vectors (*, e), as if each had been used like the average code.

        An untrained codebook is dead as a whole: its first vectors are drawn so.
        """
        flat, K = z.reshape(-1, z.shape[-1]), len(self.vectors)
        order = torch.randperm(max(len(flat), K), generator=generator, device=generator.device)
        drawn = flat[order[:K] % len(flat)]  # none twice, if there are enough
        untrained = not bool(self.size.any())
        average = torch.full_like(self.size, len(flat) / K) if untrained else self.size.mean()
        dead = self.size < DEAD * average
        self.n_revived += 0 if untrained else dead.sum()
        self.size.copy_(torch.where(dead, average, self.size))
        self.vectors.copy_(torch.where(dead[:, None], drawn, self.vectors))
        self.total.copy_(torch.where(dead[:, None], self.size[:, None] * drawn, self.total))


def straight_through(z: Tensor, quantized: Tensor) -> Tensor:
    """The quantised vectors to the bit, with the gradient of those that they stand for.

    References
    ----------
    Bengio, Léonard & Courville (2013), Estimating or Propagating Gradients Through Stochastic
    Neurons for Conditional Computation.

    Examples
    --------
    >>> z = torch.tensor([0.4], requires_grad=True)
    >>> (3 * straight_through(z, torch.tensor([1.0]))).backward()
    >>> z.grad
    tensor([3.])
    """
    return quantized.detach() + (z - z.detach())


def usage(codes: Tensor, n_codes: int) -> Tensor:
    """Share of each code among codes (*), as (K,) float32.

    Examples
    --------
    >>> usage(torch.tensor([[0, 2], [2, 2]]), n_codes=3)
    tensor([0.2500, 0.0000, 0.7500])
    """
    return torch.bincount(codes.reshape(-1), minlength=n_codes) / codes.numel()


def perplexity(share: Tensor) -> float:
    """How many codes, used alike, would be as varied as codes with these shares (K,).

    Examples
    --------
    >>> perplexity(torch.tensor([0.5, 0.5, 0.0]))
    2.0
    """
    return float(torch.special.entr(share.double()).sum().exp())
