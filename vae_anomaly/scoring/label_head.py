"""What a few labelled anomalies add to the score of a model that has not learnt from them.

A linear logistic head tells them from normal rows by what the model leaves of a row, where it puts
it and what it reads. Only what the head says beyond most normal rows is added, so that anomalies of
a kind without a label keep their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vae_anomaly.models.standardize import Batch, joined
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.logistic import logistic
from vae_anomaly.scoring.scores.score import Reading, blocks, codes, read, spread

__all__ = [
    "LEAKS",
    "MOST",
    "WEIGHT",
    "FittedHead",
    "LabelHead",
    "Mode",
    "fit_label_head",
    "one_sided",
]

#: How a head joins the score; see `LEAKS`.
Mode = Literal["default", "strict"]

#: Share of what lies below the level that counts too, by the mode, with few labels: the leak helps
#: where labels cover all kinds and costs the kinds that they leave out, on 14 tables 1 of 92 points
#: of AUROC. With trust in the head it grows by so much; see `one_sided`.
LEAKS: Mapping[Mode, float] = {"default": 0.25, "strict": 0.0}
MORE_LEAK = 0.25

#: Labelled anomalies from which on a head that places all of those that it has not learnt from
#: above the normal rows is trusted by half, in mode "default". Whatever the placement, 10 to 100
#: gain alike on the mean of 17 tables, within a fifth of a point, and with 3 one loses five.
HALF_TRUSTED = 30

#: Share of normal rows that the head can lift, what a standard deviation beyond them weighs, and
#: how many count at most.
LIFTED, WEIGHT, MOST = 0.2, 2.0, 10.0

#: Standard deviations of the unlabelled score beyond which only their logarithm counts, so that no
#: heavy tail outweighs the head; and the range in which they are a feature of it.
TAIL, SCORE_RANGE = 3.0, (-5.0, 15.0)

#: Largest standardised residual, and feature.
LARGEST_RESIDUAL, LARGEST_FEATURE = 15.0, 12.0

#: Added to the standard deviation of a feature, which may be 0.
LEAST_SPREAD = 1e-3

#: Features of an entry, and of a latent.
OF_AN_ENTRY, OF_A_LATENT = 4, 2

#: Parts of the rows, by each of which the head of the others is judged.
FOLDS = 3


class LabelHead(nn.Module):
    """A logistic head beside a model, and how its log-odds join the unlabelled score.

    Its features are of each entry the signed logarithms of the standardised residual and of the
    entry itself, and their sizes; the latents and their squares; and the unlabelled score.

    Parameters
    ----------
    n_entries : int
        Entries D of a window of active sensors.
    n_latents : int
        Width k of the latents that stand for a row.
    labels : {"default", "strict"}
        Whether log-odds below the level count in part, or not at all.
    """

    weight: Tensor
    center: Tensor
    scale: Tensor
    residual_scale: Tensor
    score_mean: Tensor
    score_spread: Tensor
    odds_mean: Tensor
    odds_spread: Tensor
    level: Tensor
    trust: Tensor

    def __init__(self, n_entries: int, n_latents: int, labels: Mode) -> None:
        super().__init__()
        self.n_entries, self.n_latents, self.labels = n_entries, n_latents, labels
        p = OF_AN_ENTRY * n_entries + OF_A_LATENT * n_latents + 1
        for name, size in (("weight", p), ("center", p), ("residual_scale", n_entries)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(p, dtype=torch.float64))
        for name in ("score_mean", "odds_mean", "level", "trust"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        for name in ("score_spread", "odds_spread"):
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
        evidence = self.features(reading, batch, score) * self.weight
        bonus = torch.where(seen, self.bonus(evidence.sum(dim=-1)), 0.0)
        of_entries = evidence[:, : OF_AN_ENTRY * self.n_entries]
        of_entries = of_entries.reshape(-1, OF_AN_ENTRY, self.n_entries).sum(dim=1)
        signed = of_entries * torch.where(bonus < 0, -1.0, 1.0)[:, None]
        parts = parts.double() / self.score_spread
        contributions = (
            parts
            + (told - plain)[:, None] * _shares(parts.abs(), batch)
            + bonus[:, None] * _shares(signed.clamp(min=0.0), batch)
        )
        return (told + bonus).float(), contributions.float()

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
        of_entries = [_signed_log(r), r.abs().log1p(), _signed_log(x), x.abs().log1p()]
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


class FittedHead(NamedTuple):
    """A head, and the share of normal rows that its anomalies stand above, without it and with.

    The placements are by heads that have not learnt from the row that is placed; NaN where there
    are fewer than three anomalies.
    """

    head: LabelHead
    unlabelled: float
    told: float


@torch.no_grad()
def fit_label_head(
    module: Model,
    normal: Batch,
    anomalies: Batch,
    *,
    score: Callable[[Batch], Tensor],
    labels: Mode,
    in_order: bool,
) -> FittedHead:
    """Learn to tell labelled anomalies from normal rows; the same rows give the same head.

    Rows are in three folds. The head is the mean of those of any two of them, and what counts as
    high is judged by rows that a head has not learnt from: the mean, standard deviation and 80 %
    quantile of the log-odds of normal rows, and in mode "default" how far the head is trusted. A
    single anomaly is in every fold.

    Parameters
    ----------
    module : Model
    normal, anomalies : Batch
        Windows of N normal rows and n anomalies.
    score : callable
        The unlabelled score (m,) of some windows.
    labels : {"default", "strict"}
    in_order : bool
        Whether neighbouring rows are alike: folds are then unbroken blocks, and else random.
    """
    rows, n = joined([normal, anomalies]), len(normal.x)
    seen = [(read(module, block), block, score(block)) for block in blocks(rows)]
    head = LabelHead(normal.x.shape[-1], seen[0][0].z.shape[-1], labels)
    plain = torch.cat([own for _, _, own in seen])
    _learn_units(head, seen, n)
    features = torch.cat([head.features(*one) for one in seen])
    odds, weights = _out_of_fold(features[:n], features[n:], in_order=in_order)
    of_normal = odds[:n]
    head.weight.copy_(weights)
    head.odds_mean.copy_(of_normal.mean())
    head.odds_spread.copy_(spread(of_normal))
    standard = (of_normal - head.odds_mean) / head.odds_spread
    head.level.copy_(torch.quantile(standard, 1 - LIFTED))
    if len(anomalies.x) < FOLDS:
        return FittedHead(head, math.nan, math.nan)
    if labels == "default":
        head.trust.fill_(_trust(odds[:n], odds[n:]))
    unlabelled = head.unlabelled(plain)
    told = unlabelled + head.bonus(odds)
    return FittedHead(head, *(_placement(s[:n], s[n:]) for s in (unlabelled, told)))


#: Rows as a model reads them, and their unlabelled score.
_Seen = list[tuple[Reading, Batch, Tensor]]


def _learn_units(head: LabelHead, seen: _Seen, n: int) -> None:
    """Fit what scores, residuals and features are measured by, to the first n of the rows."""
    score = torch.cat([own for _, _, own in seen])[:n].double()
    head.score_mean.copy_(score.mean())
    head.score_spread.copy_(spread(score))
    residual = torch.cat([reading.residual(batch) for reading, batch, _ in seen])[:n].double()
    observed = torch.cat([batch.observed for _, batch, _ in seen])[:n]
    size = (residual.square().sum(dim=0) / observed.sum(dim=0).clamp(min=1)).sqrt()
    head.residual_scale.copy_(torch.where(size > 0, size, 1.0))
    raw = torch.cat([head.raw_features(*one) for one in seen])[:n]
    known = torch.cat([head.known(batch) for _, batch, _ in seen])[:n]
    counts = known.sum(dim=0).clamp(min=1)
    head.center.copy_((raw * known).sum(dim=0) / counts)
    variance = ((raw - head.center) * known).square().sum(dim=0) / counts
    head.scale.copy_(variance.sqrt() + LEAST_SPREAD)


def _out_of_fold(normal: Tensor, anomalies: Tensor, *, in_order: bool) -> tuple[Tensor, Tensor]:
    """Log-odds of all rows by weights of the other folds, (N + n,), and the mean weights (p,)."""
    fold, own = _folds(len(normal), in_order=in_order), _folds(len(anomalies), in_order=in_order)
    if len(anomalies) == 1:
        own = torch.full_like(own, -1)  # the one label is learnt from in every fold
    odds, weights = [torch.zeros(len(rows)).double() for rows in (normal, anomalies)], []
    for number in range(FOLDS):
        weight = logistic(anomalies[own != number], normal[fold != number])
        weights.append(weight)
        for found, rows, at in zip(odds, (normal, anomalies), (fold, own), strict=True):
            found[at == number] = rows[at == number] @ weight
    return torch.cat(odds), torch.stack(weights).mean(dim=0)


def _folds(n: int, *, in_order: bool) -> Tensor:
    """The fold of each of n rows: three unbroken blocks, or as drawn by a fixed seed."""
    if in_order:
        return torch.arange(n) * FOLDS // max(n, 1)
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)) % FOLDS


def _trust(normal: Tensor, anomalies: Tensor) -> float:
    """Trust in log-odds, from 0 to 1, by how many anomalies they place above how many normal rows.

    Labels that stand on normal rows are placed by chance: there is none then.
    """
    n = len(anomalies)
    return n / (n + HALF_TRUSTED) * max(0.0, 2 * _placement(normal, anomalies) - 1)


def _placement(normal: Tensor, anomalies: Tensor) -> float:
    """Share of normal rows that anomalies stand above, on their mean; of equal ones half."""
    above = anomalies[:, None] > normal
    level = anomalies[:, None] == normal
    return float(above.double().mean() + level.double().mean() / 2)


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
