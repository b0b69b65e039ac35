"""Areas on resampled blocks: against brute force, and as wide as dependence makes them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.metrics import roc_auc_score

from vae_anomaly.decisions import resampling
from vae_anomaly.decisions.resampling import block_length, central, resampled_areas
from vae_anomaly.errors import InputError


def walk(n_series: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that wander, faults of 10 rows that lift them by 1.5, and whose series they are."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(n_series, length))
    for t in range(1, length):
        noise[:, t] = 0.95 * noise[:, t - 1] + (1 - 0.95**2) ** 0.5 * noise[:, t]
    label = np.zeros((n_series, length), int)
    label[:, 20 : length - 20 : 50] = 1
    label = (np.cumsum(label, 1) - np.cumsum(np.roll(label, 10, 1), 1) > 0).astype(int)
    series = np.repeat(np.arange(n_series), length)
    return (noise + 1.5 * label).ravel(), label.ravel(), series


@pytest.mark.parametrize("length", [1, 7, 100])
def test_areas_are_those_of_rows_repeated_as_often_as_they_are_drawn(length: int) -> None:
    scores, label, series = walk(3, 60, 0)
    scores = scores.round(1)  # ties
    found = resampled_areas(
        {"a": scores, "b": -scores}, label, series, length=length, n_resamples=30, seed=4
    )
    weights = list(resampling._weights(series, length, 30, 4))
    brute = []
    for weight in weights:
        times = weight.astype(int)
        y, s = np.repeat(label, times), np.repeat(scores, times)
        if len(set(y)) == 2:
            brute.append(roc_auc_score(y, s))
        assert all(times[series == k].sum() >= 60 for k in range(3))
    assert np.allclose(found["a"], brute)
    assert np.allclose(found["a"] + found["b"], 1)


def test_blocks_stay_whole_and_every_row_is_drawn_equally_often() -> None:
    series = np.repeat([0, 1], [50, 13])
    weights = np.array(list(resampling._weights(series, 5, 4000, 0)))
    assert np.abs(weights.mean(axis=0)[:50] - 1).max() < 0.08
    assert np.abs(weights.mean(axis=0)[50:] - 15 / 13).max() < 0.1
    single = next(resampling._weights(np.zeros(50, int), 50, 1, 0))
    assert_array_equal(single, np.ones(50))


@pytest.mark.slow
def test_blocks_make_intervals_that_hold_where_rows_by_themselves_do_not() -> None:
    """95 % intervals over 60 draws; by rows some 60 % hold, and 84 % by blocks would be -2 sd."""
    held = {1: 0, 60: 0}
    truth = np.mean(
        [roc_auc_score(label, s) for s, label, _ in (walk(4, 900, k) for k in range(90))]
    )
    for seed in range(60):
        scores, label, series = walk(4, 300, 1000 + seed)
        for length in held:
            found = resampled_areas(
                {"a": scores}, label, series, length=length, n_resamples=200, seed=0
            )
            low, high = central(found["a"], 0.95)
            held[length] += low <= truth <= high
    assert held[60] >= 50
    assert held[1] < 40


def test_the_length_follows_faults_memory_and_rows() -> None:
    label = np.tile(np.repeat([0, 1], 20), 3)
    assert block_length(label) == 20
    assert block_length(label, memory=73) == 73
    assert block_length(np.zeros(1000, int)) == 10


def test_the_same_seed_gives_the_same_areas_and_many_rows_fewer_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, label, series = walk(2, 100, 0)
    once, again = (
        resampled_areas({"a": scores}, label, series, length=5, n_resamples=300, seed=1)["a"]
        for _ in range(2)
    )
    assert_array_equal(once, again)
    monkeypatch.setattr(resampling, "MOST_WEIGHED", 1000)
    few = resampled_areas({"a": scores}, label, series, length=5, n_resamples=300, seed=1)["a"]
    assert_array_equal(few, once[: len(few)])
    assert len(few) <= 200


@pytest.mark.parametrize(("length", "label"), [(0, [0, 1]), (1, [0, 0]), (1, [1, 1])])
def test_what_cannot_be_resampled_is_refused(length: int, label: list[int]) -> None:
    with pytest.raises(InputError, match="both classes"):
        resampled_areas(
            {"a": np.zeros(2)}, np.array(label), np.zeros(2, int), length=length, seed=0
        )
    assert np.isnan(central(np.zeros(0), 0.95)).all()
