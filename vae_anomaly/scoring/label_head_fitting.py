"""Label heads are fitted to labelled anomalies and normal rows, and judged by rows left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.models.standardize import Batch, evenly, joined
from vae_anomaly.models.vae import Model
from vae_anomaly.scoring.label_head import OF_A_PLACE, LabelHead, Mode
from vae_anomaly.scoring.logistic import logistic
from vae_anomaly.scoring.nearness import ENTRIES, LEAST, known_rows, nearness
from vae_anomaly.scoring.scores.score import ROWS_AT_ONCE, Reading, blocks, read, spread

__all__ = ["ALIKE", "FittedHead", "fit_label_head", "weigh"]

#: Labelled anomalies from which on a head that places all of those that it has not learnt from
#: above the normal rows is trusted by half, in mode "default". Whatever the placement, 10 to 100
#: gain alike on the mean of 17 tables, within a fifth of a point, and with 3 one loses five.
HALF_TRUSTED = 30

#: Share of normal rows that the head can lift.
LIFTED = 0.2

#: Added to the standard deviation of a feature, which may be 0.
LEAST_SPREAD = 1e-3

#: Anomalies that stand a standard deviation above normal rows by both kinds of log-odds, which are
#: added to those that bear a label; and the most that both may correlate.
ALIKE, MOST_ALIKE = 10, 0.99

#: Parts of the rows, by each of which the head of the others is judged.
FOLDS = 3


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

    Rows are in three folds. The linear head is the mean of those of any two of them, and what its
    log-odds weigh beside nearness, and what counts as high, is judged by rows that a head has not
    learnt from: the mean, standard deviation and 80 % quantile of the log-odds of normal rows, and
    in mode "default" how far the head is trusted. A single anomaly is in every fold.

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
    plain = torch.cat([own for _, _, own in seen])
    width, n_latents = normal.x.shape[-1], seen[0][0].z.shape[-1]
    most = max(LEAST, ENTRIES // (OF_A_PLACE * width + n_latents))
    sizes = {"n_normal": min(n, most), "n_anomalies": min(len(anomalies.x), most)}
    head = LabelHead(width, n_latents, labels, **sizes)
    _learn_units(head, seen, n)
    features = torch.cat([head.features(*one) for one in seen])
    odds = _learn_odds(head, features, rows, n, in_order=in_order)
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


def _learn_odds(
    head: LabelHead, features: Tensor, rows: Batch, n: int, *, in_order: bool
) -> Tensor:
    """Fit the head to rows, the first n of them normal; their log-odds out of fold (m,)."""
    fold = torch.cat([_folds(size, in_order=in_order) for size in (n, len(features) - n)])
    if len(features) == n + 1:
        fold[n] = -1  # the one label is learnt from in every fold
    linear = _learn_weights(head, features, fold, n)
    near = _learn_places(head, *head.placed(features, rows), fold, n)
    of_linear, of_near = weigh(linear, near, n)
    head.weight.mul_(of_linear)
    head.near_weight.copy_(of_near)
    odds: Tensor = of_linear * linear + of_near * near
    of_normal = odds[:n]
    head.odds_mean.copy_(of_normal.mean())
    head.odds_spread.copy_(spread(of_normal))
    standard = (of_normal - head.odds_mean) / head.odds_spread
    head.level.copy_(torch.quantile(standard, 1 - LIFTED))
    return odds


def _learn_weights(head: LabelHead, features: Tensor, fold: Tensor, n: int) -> Tensor:
    """Fit the mean weights of the folds; what those of the other folds make of each row, (m,)."""
    is_normal = torch.arange(len(fold)) < n
    odds, weights = torch.zeros(len(fold), dtype=torch.float64), []
    for number in range(FOLDS):
        out = fold == number
        weight = logistic(features[~out & ~is_normal], features[~out & is_normal])
        weights.append(weight)
        odds[out] = features[out] @ weight
    head.weight.copy_(torch.stack(weights).mean(dim=0))
    return odds


def _learn_places(head: LabelHead, place: Tensor, observed: Tensor, fold: Tensor, n: int) -> Tensor:
    """Keep rows to hold others against; how near each is to those of the other folds, (m,)."""
    normal = evenly(n, len(head.normal))
    anomalies = n + evenly(len(place) - n, len(head.anomalies))
    head.hold_against(known := known_rows(place[normal], place[anomalies]))
    near = torch.zeros(len(place), dtype=torch.float64)
    for number in range(FOLDS):
        others = known._replace(
            normal=known.normal[fold[normal] != number],
            anomalies=known.anomalies[fold[anomalies] != number],
        )
        for some in torch.split((fold == number).nonzero().squeeze(-1), ROWS_AT_ONCE):
            near[some] = nearness(place[some], observed[some], others)[0]
    return near


def weigh(linear: Tensor, near: Tensor, n: int) -> Tensor:
    """Weights (2,) of two kinds of log-odds (m,), of rows whose first n are normal.

    Fisher's discriminant of the two, in standard deviations of normal rows: if anomalies stand d1
    and d2 of these above them, and the two correlate by r, it is (d1 - r d2, d2 - r d1), here none
    below 0 and as shares of their sum. With `ALIKE` anomalies added, few labels weigh both alike.
    """
    both = torch.stack([linear, near])
    normal, anomalies = both[:, :n], both[:, n:]
    sizes = torch.stack([spread(own) for own in normal])
    known = anomalies.shape[1] if anomalies.shape[1] >= FOLDS else 0
    above = torch.stack([_above(*one) for one in zip(normal, anomalies, strict=True)])
    above = (known * above + ALIKE) / (known + ALIKE)
    standard = (normal - normal.mean(dim=1, keepdim=True)) / sizes[:, None]
    r = standard.prod(dim=0).mean().clamp(max=MOST_ALIKE)
    shares = (above - r * above.flip(0)).clamp(min=0.0)
    return shares / shares.sum() / sizes


def _above(normal: Tensor, anomalies: Tensor) -> Tensor:
    """Standard deviations by which anomalies stand above normal rows, as their placement tells."""
    placement = torch.tensor(_placement(normal, anomalies), dtype=torch.float64)
    above: Tensor = torch.special.ndtri(placement.clamp(0.5, 0.99))
    return above


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
