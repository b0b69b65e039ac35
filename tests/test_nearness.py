"""Whether rows lie nearer to labelled anomalies than to normal rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from naive import nearest_distance
from numpy.testing import assert_allclose
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from vae_anomaly.scoring.label_head_fitting import ALIKE, weigh
from vae_anomaly.scoring.nearness import FLOOR, Known, known_rows, nearness


def drawn(n: int, seed: int, q: int = 4) -> torch.Tensor:
    return torch.randn(n, q, generator=torch.Generator().manual_seed(seed))


def everywhere(rows: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(rows, dtype=torch.bool)


def test_nearness_is_that_of_a_brute_force_search_with_gaps_and_without() -> None:
    known = known_rows(drawn(50, 0), drawn(7, 1) + 2)
    rows = drawn(40, 2) + 1
    observed = torch.rand(40, 4, generator=torch.Generator().manual_seed(3)) > 0.3
    observed[:10] = True
    ratio, parts = nearness(rows * observed, observed, known)
    for i, (row, seen) in enumerate(
        zip((rows * observed).tolist(), observed.tolist(), strict=True)
    ):
        if not any(seen):
            continue
        share = sum(seen) / len(seen)  # of squared distances, which `nearest_distance` undoes
        d, a = (
            share * nearest_distance(row, seen, others.tolist()) ** 2 + float(known.floor)
            for others in (known.normal, known.anomalies)
        )
        assert_allclose(ratio[i], np.log(d / a) / 2, rtol=1e-4, atol=1e-5)
    assert_allclose(parts.sum(dim=1), ratio, rtol=1e-9, atol=1e-12)
    assert (parts[~observed] == 0).all()
    assert (ratio[:10] > 0).any()
    assert (ratio[:10] < 0).any()


def test_floor_is_a_share_of_the_mean_squared_distance_between_normal_rows() -> None:
    rows = drawn(60, 0)
    far = [
        nearest_distance(row, [True] * 4, rows[torch.arange(60) != i].tolist())
        for i, row in enumerate(rows.tolist())
    ]
    known = known_rows(rows, drawn(3, 1))
    assert_allclose(known.floor, FLOOR * np.mean(np.square(far)), rtol=1e-5)
    assert not known.repeats
    twice = known_rows(torch.cat([rows, rows]), drawn(3, 1))
    assert twice.repeats
    assert twice.floor == 1  # every row is repeated: no distance tells the unit


def test_a_feature_counts_for_the_anomalies_where_the_row_is_like_them() -> None:
    known = Known(torch.zeros(2, 2), torch.tensor([[4.0, 4.0]]), torch.tensor(True), torch.ones(()))
    _, parts = nearness(torch.tensor([[4.0, 0.0]]), torch.ones(1, 2) > 0, known)
    assert_allclose(parts, [[16 / (2 * 17), -16 / (2 * 17)]])  # both sums are 16: the limit


def test_normal_rows_that_are_known_are_judged_as_fresh_ones() -> None:
    """In 500 against 500 the area has a standard deviation of .018; within .05 but one time in 200.

    At distance 0 from themselves they would all be more normal than the fresh ones.
    """
    rows = drawn(500, 0)
    known = known_rows(rows, drawn(20, 1) + 1)
    again = rows + 1e-7  # as another batch may round it
    own, fresh = (nearness(some, everywhere(some), known)[0] for some in (again, drawn(500, 2)))
    truth = np.arange(1000) < 500
    assert abs(roc_auc_score(truth, torch.cat([own, fresh])) - 0.5) < 0.05


def test_an_anomaly_seen_again_is_the_nearest_of_all_and_moves_smoothly() -> None:
    known = known_rows(drawn(50, 0), drawn(7, 1) + 2)
    again = known.anomalies.clone().requires_grad_()
    ratio, _ = nearness(again, everywhere(again), known)
    others, _ = nearness(again.detach() + 0.5, everywhere(again), known)
    assert (ratio > others).all()
    ratio.sum().backward()  # type: ignore[no-untyped-call] # torch says no types
    assert again.grad is not None
    assert again.grad.isfinite().all()
    assert again.grad.any()


def test_a_cluster_that_no_direction_tells_is_found() -> None:
    cluster = [0.1 * drawn(n, n) for n in (20, 200)]
    ring = [row[row.norm(dim=1) > 1] for row in (drawn(600, 0), drawn(700, 1))]
    known = known_rows(ring[0], cluster[0])
    rows = torch.cat([ring[1], cluster[1]])
    truth = np.arange(len(rows)) >= len(ring[1])
    assert roc_auc_score(truth, nearness(rows, everywhere(rows), known)[0]) > 0.99


# --------------------------------------------------------------------- with the linear log-odds


@pytest.mark.parametrize(("first", "second", "r"), [(1.5, 1.0, 0.3), (2.0, 0.5, 0.0)])
def test_weights_are_those_of_a_discriminant_analysis(
    first: float, second: float, r: float
) -> None:
    """With 3,000 anomalies, ten of which are invented: a share's standard error is about .02."""
    rng = np.random.default_rng(0)
    n = 3_000
    normal = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], n)
    ours = rng.multivariate_normal([first, second], [[1, r], [r, 1]], n)
    rows = np.concatenate([normal, ours]) * [3.0, 0.2]  # in any unit
    found = weigh(*torch.from_numpy(rows).T, n) * torch.tensor([3.0, 0.2])
    oracle = LinearDiscriminantAnalysis().fit(np.concatenate([normal, ours]), np.arange(2 * n) < n)
    expected = abs(oracle.coef_[0])
    assert_allclose(found, expected / expected.sum(), atol=0.06)


def test_few_labels_weigh_both_alike_and_one_that_adds_nothing_weighs_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    odds = torch.randn(2, 2000, generator=rng, dtype=torch.float64)
    odds[0, 1000:] += 3
    sizes = odds[:, :1000].std(dim=1, correction=0)
    shares = [weigh(*odds[:, : 1000 + n], 1000) * sizes for n in (1, 2, ALIKE, 1000)]
    assert_allclose(shares[0], [0.5, 0.5], atol=1e-9)
    assert_allclose(shares[1], [0.5, 0.5], atol=1e-9)
    assert 0.5 < shares[2][0] < shares[3][0]
    assert shares[3][0] > 0.95
    odds[1] = odds[0] + odds[1]  # what the first says, and noise
    assert weigh(*odds, 1000)[1] == 0
    same = weigh(odds[0], odds[0], 1000) * sizes[0]
    assert_allclose(same, [0.5, 0.5])
