"""Smoothing of scores over the rows of a series, with a memory of a fixed number of rows.

Either one EWMA, or the largest of several. Plain tensors in and out: any score can be smoothed.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from vae_anomaly.errors import InputError

__all__ = [
    "SCALES",
    "Smoothing",
    "ewma",
    "held_in",
    "kernel_length",
    "multiscale",
    "multiscale_error",
    "smoothing_context",
    "standard_ewma",
]

#: Rate of an EWMA, "auto" for the largest of several, or None for the score as it is.
Smoothing = float | Literal["auto"] | None

#: Weight of the rows that the kernel of one EWMA leaves out.
CUT_WEIGHT = 1e-4

#: Rates of the averages of which the largest counts: from the row itself, for a shock, to some
#: sixty rows, for a slow drift.
SCALES = (1.0, 0.3, 0.1, 0.03)

#: Weight of the rows that their kernels leave out, and their share of the standard deviation too:
#: far below one standard deviation, and it halves what the slowest reads back, to 255 rows.
CUT_WEIGHT_OF_SCALES = 1e-3

#: Standard deviations beyond which a value grows only as its logarithm before it is averaged.
LARGE = 5.0


def ewma(values: Tensor, run: Tensor, rate: float) -> Tensor:
    """Exponentially weighted moving average (n, ...) of each row and those of its series before it.

    Weights rate * (1 - rate)^lag, cut off where the rest weighs below 1e-4 and normalised over the
    rows that exist.

    Parameters
    ----------
    values : Tensor of shape (n, ...)
    run : Tensor of shape (n,)
        How many rows of the same series stand directly before each.
    rate : float
        Weight of the row itself, in (0, 1].

    References
    ----------
    Roberts (1959), Control Chart Tests Based on Geometric Moving Averages.
    """
    kernel = kernel_length(rate)
    terms = torch.arange(1, kernel + 1, dtype=torch.float64)
    weight = rate / (1 - (1 - rate) ** terms)  # of j rows that exist
    return _weighted_sum(values, run, 1 - rate, weight)


def standard_ewma(values: Tensor, run: Tensor, rate: float) -> Tensor:
    """An EWMA of standardised values over the standard deviation that it has where they are normal.

    It starts at 0, the mean of normal rows, and is divided by its exact standard deviation on
    independent rows, of the rows that exist: sqrt(rate / (2 - rate) * (1 - (1 - rate)^(2t))) of t.
    So the first rows of a series are judged as strictly as later ones: by the asymptotic value they
    would pass as normal. Rows that weigh below 1e-3 are cut off.

    Parameters
    ----------
    values : Tensor of shape (n, ...)
        Of mean 0 and standard deviation 1 in normal rows.
    run : Tensor of shape (n,)
        How many rows of the same series stand directly before each.
    rate : float
        Weight of the row itself, in (0, 1].

    References
    ----------
    Steiner (1999), EWMA Control Charts with Time-Varying Control Limits and Fast Initial Response,
    Journal of Quality Technology 31.
    """
    terms = torch.arange(1, kernel_length(rate, CUT_WEIGHT_OF_SCALES) + 1, dtype=torch.float64)
    keep = 1 - rate
    weight = ((1 - keep**2) / (1 - keep ** (2 * terms))).sqrt()  # the rate itself cancels
    return _weighted_sum(values, run, keep, weight)


def held_in(score: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """A score whose values c (1 + ln(z / c)) stand for those above c = 5, and its parts likewise.

    What one absurd reading leaves behind in a slow average would outshine for many rows all else
    that is then to be seen.

    Parameters
    ----------
    score : Tensor of shape (n,)
        Of mean 0 and standard deviation 1 in normal rows.
    parts : Tensor of shape (n, d)
        Contributions, which sum to the score.

    References
    ----------
    Lucas & Crosier (1982), Robust CUSUM: A Robustness Study for CUSUM Quality Control Schemes,
    Communications in Statistics - Theory and Methods 11.

    Examples
    --------
    >>> held, parts = held_in(torch.tensor([-3.0, 5.0, 500.0]), torch.tensor([[-3.0], [5], [500]]))
    >>> held
    tensor([-3.0000,  5.0000, 28.0259])
    """
    beyond = score.clamp(min=LARGE)
    share = (1 + (beyond / LARGE).log()) * LARGE / beyond
    return score * share, parts * share[:, None]


def multiscale(score: Tensor, parts: Tensor, run: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of several EWMAs of a score, each over its standard deviation, and its parts.

    A shock is in the fastest, the row itself, at once; a slow drift gathers in the slowest. Which
    of them suits a fault need not be known. The slow ones are of values that are held in, see
    `held_in`, so that a single one does not last.

    Parameters
    ----------
    score : Tensor of shape (n,)
        Of mean 0 and standard deviation 1 in normal rows.
    parts : Tensor of shape (n, d)
        Contributions, which sum to the score.
    run : Tensor of shape (n,)
        How many rows of the same series stand directly before each.

    Returns
    -------
    score : Tensor of shape (n,)
        Of the scale at which it is largest; of equal ones the fastest.
    parts : Tensor of shape (n, d)
        Of the same scale; they sum to it.

    References
    ----------
    Lucas & Saccucci (1990), Exponentially Weighted Moving Average Control Schemes, Technometrics
    32, for a Shewhart limit beside an EWMA; Han, Tsung, Hu & Wang (2007), CUSUM and EWMA
    Multi-Charts for Detecting a Range of Mean Shifts, Statistica Sinica 17.

    Examples
    --------
    >>> steady = torch.full((100,), 1.0)
    >>> largest, parts = multiscale(steady, steady[:, None], torch.arange(100))
    >>> largest[[0, 1, 9, 99]].round(decimals=2)
    tensor([1.0000, 1.4100, 3.1500, 7.7300])
    """
    largest, of_largest = score, parts
    held, of_held = held_in(score, parts)
    for rate in SCALES[1:]:  # the first is the row itself
        chart = standard_ewma(held, run, rate)
        is_larger = chart > largest
        largest = torch.where(is_larger, chart, largest)
        own = standard_ewma(of_held, run, rate)
        of_largest = torch.where(is_larger[:, None], own, of_largest)
    return largest, of_largest


def multiscale_error(error: Tensor, run: Tensor) -> Tensor:
    """Standard error (n,) of `multiscale` at most, from that of the score, if rows share theirs."""
    return torch.stack([standard_ewma(error, run, rate) for rate in SCALES]).amax(dim=0)


def smoothing_context(smoothing: Smoothing) -> int:
    """Rows before a row that its smoothed score depends on.

    Raises
    ------
    InputError
        It is neither a rate in (0, 1] nor "auto" nor None.

    Examples
    --------
    >>> smoothing_context(None), smoothing_context(0.2), smoothing_context("auto")
    (0, 63, 255)
    """
    if smoothing is None:
        return 0
    if smoothing == "auto":
        return max(kernel_length(rate, CUT_WEIGHT_OF_SCALES) for rate in SCALES) - 1
    return kernel_length(smoothing) - 1


def kernel_length(rate: float, cut_weight: float = CUT_WEIGHT) -> int:
    """Rows that a kernel covers, a power of two; those further back weigh less than the cut."""
    if isinstance(rate, str) or not 0 < rate <= 1:
        raise InputError(
            f"smoothing={rate!r} must be a rate above 0 and at most 1, 'auto', or None"
        )
    needed = 1.0 if rate == 1 else max(1.0, math.log(cut_weight) / math.log1p(-rate))
    return int(2 ** math.ceil(math.log2(needed)))


def _weighted_sum(values: Tensor, run: Tensor, keep: float, weight: Tensor) -> Tensor:
    """Sum of keep^lag times the rows that exist, times the weight (kernel,) of their number.

    A sum over 2m rows is one over m rows and the same m rows earlier, so that every row is summed
    in the same order, wherever the rows are cut.
    """
    length, kernel, shape = 1, len(weight), (-1,) + (1,) * (values.dim() - 1)
    total = values
    while length < kernel:
        reaches = (run[length:] >= length).reshape(shape)
        earlier = total[:-length] * keep**length
        total = torch.cat([total[:length], total[length:] + torch.where(reaches, earlier, 0.0)])
        length *= 2
    return total * weight.to(values.dtype)[run.clamp(max=kernel - 1)].reshape(shape)
