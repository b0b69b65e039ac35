"""What a baseline learns from."""

from __future__ import annotations

from typing import NamedTuple

from vae_anomaly.models.standardize import Batch

__all__ = ["Learnt"]


class Learnt(NamedTuple):
    """Normal training rows, standardised.

    Attributes
    ----------
    batch : Batch
        Windows, x (n, D) with the oldest row first.
    following : Batch
        The rows after each, x (n, ahead * d); no columns for a baseline that needs none.
    """

    batch: Batch
    following: Batch
