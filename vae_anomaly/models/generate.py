"""New rows from a model: drawn, near given ones, on the way between two, or one latent at a time.

Everything here is in standardised units and asks a model only for what every member answers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_anomaly.errors import InputError
from vae_anomaly.models.classes import ClassVAE
from vae_anomaly.models.likelihoods import standard_normal
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import one_thread
from vae_anomaly.models.vae import Model

__all__ = ["decode", "interpolate", "near", "prior_draw", "traverse"]

#: Rows that are decoded at once.
BLOCK = 4096

#: Below this sine of the angle two latents are parallel, and no great circle leads between them.
PARALLEL = 1e-4


@one_thread()
@torch.no_grad()
def prior_draw(
    module: Model, context: Tensor, generator: torch.Generator, label: int = 0
) -> Tensor:
    """Latents (n, k) of new rows from the prior; of a kind of anomaly where a label is given.

    Parameters
    ----------
    module : Model
    context : Tensor of shape (n, c)
        Standardised.
    generator : torch.Generator
    label : int
        0 for normal rows; above 0 a kind that a semi-supervised model has learnt.

    Raises
    ------
    InputError
        The model has not learnt this kind.
    """
    if isinstance(module, ClassVAE):
        return module.draw(context, generator, label)
    if label:
        raise InputError(
            f"label {label}: this model learnt no kinds of anomalies; train variant "
            "semi_supervised on rows with labels"
        )
    return module.draw(context, generator)


@one_thread()
@torch.no_grad()
def decode(
    module: Model, z: Tensor, context: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Rows x (n, D) of latents (n, k): drawn from p(x | z, c), or its means.

    Parameters
    ----------
    module : Model
    z : Tensor of shape (n, k)
        From `prior_draw`, `near`, `interpolate` or `traverse`.
    context : Tensor of shape (n, c)
        Standardised.
    generator : torch.Generator, optional
        Where the observation noise is drawn from; without it the means are given.
    """
    pieces = []
    for some, condition in zip(torch.split(z, BLOCK), torch.split(context, BLOCK), strict=True):
        p = module.likelihood(some, condition)
        pieces.append(p.mean if generator is None else p.draw(generator))
    return torch.cat(pieces)


@one_thread()
@torch.no_grad()
def near(
    module: Model, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0
) -> Tensor:
    """Latents (n, k) from the posterior of given rows, the spread scaled.

    Parameters
    ----------
    module : Model
    batch : Batch
        n rows.
    generator : torch.Generator
    temperature : float
        1 samples the posterior, 0 is its mean, more goes further from the row.

    Raises
    ------
    InputError
        The temperature is negative.
    """
    if temperature < 0:
        raise InputError(f"temperature={temperature} is negative; give 0 (the mean) or more")
    mean, spread = module.embed(batch), module.spread(batch)
    return mean + temperature * spread * standard_normal(mean.shape, generator)


def interpolate(start: Tensor, end: Tensor, steps: int, *, spherical: bool = False) -> Tensor:
    """Latents on the way from one to another, both ends included; (steps, k).

    The spherical way goes along the great circle of the two directions while the norm changes
    evenly: in many dimensions draws from N(0, I) lie near a sphere, and a straight line between
    two of them leads through latents that the decoder has never seen. Where no great circle leads
    from one to the other (one is zero, or they are parallel), the way is straight.

    Parameters
    ----------
    start, end : Tensor of shape (k,)
    steps : int
        At least 2.
    spherical : bool

    References
    ----------
    White (2016), Sampling Generative Networks.

    Raises
    ------
    InputError
        There are fewer than two steps.

    Examples
    --------
    >>> east, north = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    >>> interpolate(east, north, 3)
    tensor([[2., 0.],
            [1., 2.],
            [0., 4.]])
    >>> interpolate(east, north, 3, spherical=True)[1]
    tensor([2.1213, 2.1213])
    """
    if steps < 2:
        raise InputError(f"steps={steps} leaves no way; give at least 2, the ends")
    share = torch.linspace(0, 1, steps, device=start.device)[:, None]  # (s, 1)
    straight = torch.lerp(start, end, share)
    if not spherical:
        return straight
    lengths = torch.stack([start.norm(), end.norm()])
    a, b = start / lengths[0], end / lengths[1]  # of norm 1, or not numbers
    angle = 2 * torch.atan2((a - b).norm(), (a + b).norm())  # Kahan's, exact for small ones too
    if not angle.sin() > PARALLEL:
        return straight
    direction = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    way = torch.lerp(lengths[0], lengths[1], share) * direction
    way[0], way[-1] = start, end  # the ends themselves, to the last bit
    return way


def traverse(z: Tensor, values: Tensor) -> Tensor:
    """One latent at a time takes each of its values, the others as they are; (k, m, k).

    Parameters
    ----------
    z : Tensor of shape (k,)
        The latents of a row, or zeros.
    values : Tensor of shape (k, m)

    References
    ----------
    Higgins et al. (2017), beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
    Framework; figure 1 and following.

    Examples
    --------
    >>> traverse(torch.zeros(2), torch.tensor([[-1.0, 1.0], [0.0, 5.0]]))
    tensor([[[-1.,  0.],
             [ 1.,  0.]],
    <BLANKLINE>
            [[ 0.,  0.],
             [ 0.,  5.]]])
    """
    k, m = values.shape
    moved = z.expand(k, m, k).clone()
    each = torch.arange(k, device=z.device)
    moved[each, :, each] = values
    return moved
