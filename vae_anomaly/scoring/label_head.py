"""What a few labelled anomalies add to the score of a model that has not learnt from them.

A linear logistic head tells them from normal rows by what the model leaves of a row, where it puts
it and what it reads; and so does whether a row lies nearer to one of them than to a normal row.
Only what both say beyond most normal rows is added, so that anomalies of a kind without a label
keep their place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from vae_anomaly.models.standardize import Batch
from vae_anomaly.scoring.nearness import Known, nearness
from vae_anomaly.scoring.scores.score import Reading, codes

__all__ = ["LEAKS", "MOST", "OF_A_PLACE", "WEIGHT", "LabelHead", "Mode", "one_sided"]

#: How a head joins the score; see `LEAKS`.
Mode = Literal["default", "strict"]

#: Share of what lies below the level that counts too, by the mode, with few labels: the leak helps
#: where labels cover all kinds and costs the kinds that they leave out, on 14 tables 1 of 92 points
#: of AUROC. With trust in the head it grows by so much; see `one_sided`.
LEAKS: Mapping[Mode, float] = {"default": 0.25, "strict": 0.0}
MORE_LEAK = 0.25

#: What a standard deviation beyond most normal rows weighs, and how many count at most.
WEIGHT, MOST = 2.0, 10.0

#: Standard deviations of the unlabelled score beyond which only their logarithm counts, so that no
#: heavy tail outweighs the head; and the range in which they are a feature of it.
TAIL, SCORE_RANGE = 3.0, (-5.0, 15.0)

#: Largest standardised residual, and feature.
LARGEST_RESIDUAL, LARGEST_FEATURE = 15.0, 12.0

#: Features of an entry and of a latent, and how many of the former say where a row lies: the first.
OF_AN_ENTRY, OF_A_LATENT, OF_A_PLACE = 4, 2, 2


class LabelHead(nn.Module):
    """A logistic head beside a model, and how its log-odds join the unlabelled score.

    Its features are of each entry the signed logarithms of the standardised residual and of the
    entry itself, and their sizes; the latents and their squares; and the unlabelled score. Where a
    row lies is told by the signed ones and the latents.

    Parameters
    ----------
    n_entries : int
        Entries D of a window of active sensors.
    n_latents : int
        Width k of the latents that stand for a row.
    labels : {"default", "strict"}
        Whether log-odds below the level count in part, or not at all.
    n_normal, n_anomalies : int
        Normal rows and labelled anomalies that rows are held against.
    """

    weight: Tensor
    center: Tensor
    scale: Tensor
    residual_scale: Tensor
    normal: Tensor
    anomalies: Tensor
    repeats: Tensor
    floor: Tensor
    near_weight: Tensor
    score_mean: Tensor
    score_spread: Tensor
    odds_mean: Tensor
    odds_spread: Tensor
    level: Tensor
    trust: Tensor

    def __init__(
        self, n_entries: int, n_latents: int, labels: Mode, *, n_normal: int, n_anomalies: int
    ) -> None:
        super().__init__()
        self.n_entries, self.n_latents, self.labels = n_entries, n_latents, labels
        p = OF_AN_ENTRY * n_entries + OF_A_LATENT * n_latents + 1
        for name, size in (("weight", p), ("center", p), ("residual_scale", n_entries)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(p, dtype=torch.float64))
        for name, n in (("normal", n_normal), ("anomalies", n_anomalies)):
            self.register_buffer(name, torch.zeros(n, OF_A_PLACE * n_entries + n_latents))
        self.register_buffer("repeats", torch.tensor(False))
        for name in ("near_weight", "score_mean", "odds_mean", "level", "trust"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        for name in ("floor", "score_spread", "odds_spread"):
            self.register_buffer(name, torch.ones((), dtype=torch.float64))

    def forward(
        self, reading: Reading, batch: Batch, score: Tensor, parts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The score (n,) with what labels add, in standard deviations; contributions (n, D).

        An entry contributes its part of the unlabelled score, and of the bonus the share that its
        features have in the log-odds of the bonus's sign; what latents and score say is shared
        likewise. A row without a value keeps its score.

        Parameters
        ----------
        reading : Reading
            What the model makes of the rows.
        batch : Batch
            Of n rows.
        score, parts : Tensor
            Unlabelled score (n,) and its contributions (n, D).
        """
        seen = batch.observed.any(dim=-1)
        plain = score.double() / self.score_spread
        told = torch.where(seen, self.unlabelled(score), plain)
        features = self.features(reading, batch, score)
        near, nearer = nearness(*self.placed(features, batch), self.known_rows)
        evidence = features * self.weight
        odds = evidence.sum(dim=-1) + self.near_weight * near
        bonus = torch.where(seen, self.bonus(odds), 0.0)
        of_entries = self._of_entries(evidence, OF_AN_ENTRY)
        of_entries = of_entries + self.near_weight * self._of_entries(nearer, OF_A_PLACE)
        signed = of_entries * torch.where(bonus < 0, -1.0, 1.0)[:, None]
        parts = parts.double() / self.score_spread
        contributions = (
            parts
            + (told - plain)[:, None] * _shares(parts.abs(), batch)
            + bonus[:, None] * _shares(signed.clamp(min=0.0), batch)
        )
        return (told + bonus).float(), contributions.float()

    def _of_entries(self, evidence: Tensor, each: int) -> Tensor:
        """What features say of entries, each as many, that stand first, (n, D)."""
        own = evidence[:, : each * self.n_entries]
        return own.reshape(-1, each, self.n_entries).sum(dim=1)

    def placed(self, features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Where rows lie: features (n, 2 D + k) and which of them were observed."""
        of_a_place, latents = OF_A_PLACE * self.n_entries, OF_AN_ENTRY * self.n_entries
        first, last = slice(of_a_place), slice(latents, latents + self.n_latents)
        known = self.known(batch)
        place = torch.cat([features[:, first], features[:, last]], dim=-1)
        return place, torch.cat([known[:, first], known[:, last]], dim=-1)

    @property
    def known_rows(self) -> Known:
        """What rows are held against."""
        return Known(self.normal, self.anomalies, self.repeats, self.floor)

    def hold_against(self, known: Known) -> None:
        """Hold rows against these from now on."""
        for own, given in zip(self.known_rows, known, strict=True):
            own.copy_(given)

    def unlabelled(self, score: Tensor) -> Tensor:
        """The unlabelled score (n,) in standard deviations of normal rows, with short tails."""
        z = self._standardized(score)
        return score.double() / self.score_spread + (_short_tailed(z) - z)

    def _standardized(self, score: Tensor) -> Tensor:
        return (score.double() - self.score_mean) / self.score_spread

    def features(self, reading: Reading, batch: Batch, score: Tensor) -> Tensor:
        """Features (n, p), standardised on normal rows; 0 where nothing was observed; float64."""
        raw = self.raw_features(reading, batch, score)
        standard: Tensor = ((raw - self.center) / self.scale).clamp(
            -LARGEST_FEATURE, LARGEST_FEATURE
        )
        return standard * self.known(batch) / math.sqrt(len(self.weight))

    def raw_features(self, reading: Reading, batch: Batch, score: Tensor) -> Tensor:
        """Features (n, p) before they are standardised."""
        r = reading.residual(batch).double() / self.residual_scale
        r = r.clamp(-LARGEST_RESIDUAL, LARGEST_RESIDUAL)
        x = batch.x.double().masked_fill(codes(reading.p), 0.0)  # the order of levels says nothing
        z = _short_tailed(self._standardized(score)).clamp(*SCORE_RANGE)
        of_entries = [_signed_log(r), _signed_log(x), r.abs().log1p(), x.abs().log1p()]
        latents = reading.z.double()
        return torch.cat([*of_entries, latents, latents.square(), z[:, None]], dim=-1)

    def known(self, batch: Batch) -> Tensor:
        """Which features (n, p) rest on an entry that was observed, or on the whole row."""
        whole = batch.observed.new_ones((len(batch.x), OF_A_LATENT * self.n_latents + 1))
        return torch.cat([batch.observed] * OF_AN_ENTRY + [whole], dim=-1)

    def bonus(self, odds: Tensor) -> Tensor:
        """What log-odds (n,) add to the score; (n,)."""
        above = (odds - self.odds_mean) / self.odds_spread - self.level
        return one_sided(above, LEAKS[self.labels], float(self.trust))


def one_sided(above: Tensor, leak: float, trust: float = 0.0) -> Tensor:
    """Twice what lies above 0, at most 20, and of what lies below a share, at most 20 as well.

    Trust in the log-odds, from 0 to 1, adds as much again of all, and a quarter to the share.

    Examples
    --------
    >>> one_sided(torch.tensor([-100.0, -4.0, 3.0, 100.0]), 0.25)
    tensor([-20.,  -2.,   6.,  20.])
    >>> one_sided(torch.tensor([-100.0, -4.0, 3.0, 100.0]), 0.25, trust=1.0)
    tensor([-40.,  -8.,  12.,  40.])
    >>> one_sided(torch.tensor([-100.0, 3.0]), 0.0)
    tensor([0., 6.])
    """
    below = (leak + MORE_LEAK * trust) * above.clamp(max=0.0)
    return WEIGHT * (1 + trust) * (above.clamp(0.0, MOST) + below.clamp(min=-MOST))


def _signed_log(values: Tensor) -> Tensor:
    return values.sign() * values.abs().log1p()


def _short_tailed(z: Tensor) -> Tensor:
    """Standardised values of which what exceeds three counts by its logarithm.

    Examples
    --------
    >>> _short_tailed(torch.tensor([-3.0, 2.0, 1002.0])).round(decimals=2)
    tensor([-3.0000,  2.0000,  9.9100])
    """
    beyond = (z.abs() - TAIL).clamp(min=0.0)
    return z - z.sign() * (beyond - beyond.log1p())


def _shares(weights: Tensor, batch: Batch) -> Tensor:
    """Weights (n, D) of at least 0 as shares of their sum; of none, evenly of what was observed."""
    total = weights.sum(dim=-1, keepdim=True)
    evenly = batch.observed / batch.observed.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), evenly)
