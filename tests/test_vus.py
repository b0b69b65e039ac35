"""The volume under the precision-recall surface: the published one, with an interval that holds."""

from __future__ import annotations

import math
import os
from pathlib import Path

import naive
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import lfilter
from scipy.stats import binom
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler
from suites import tsb_ad

from vae_anomaly.decisions import vus
from vae_anomaly.decisions.rates import FloatArray, IntArray
from vae_anomaly.decisions.vus import period, vus_pr
from vae_anomaly.errors import InputError

DATA = Path(os.environ.get("VAE_ANOMALY_DATA", Path(__file__).parents[1] / "../shared/data"))


def wandering(n: int, n_faults: int, shift: float, seed: int) -> tuple[FloatArray, IntArray]:
    """Scores of autocorrelation 0.9, lifted in faults of 5 to 29 rows by some `shift`."""
    rng = np.random.default_rng(seed)
    score = lfilter([math.sqrt(1 - 0.9**2)], [1, -0.9], rng.normal(size=n))
    label = np.zeros(n, int)
    for fault in range(n_faults):
        start = fault * (n // n_faults) + rng.integers(10, n // n_faults - 40)
        end = start + rng.integers(5, 30)
        label[start:end] = 1
        score[start:end] += shift * rng.gamma(2, 0.5)
    return score, label


def random_case(trial: int) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(trial)
    label = np.repeat(rng.random(16) < 0.3, 4).astype(int)
    label[trial % 64] = 1
    return rng.normal(size=64).round(trial % 3) + label * rng.random(), label  # with ties


@pytest.mark.parametrize("trial", range(12))
def test_volume_is_that_of_the_definition(trial: int) -> None:
    score, label = random_case(trial)
    slow = naive.vus_pr((label > 0).tolist(), score.tolist(), 9)
    assert_allclose(vus_pr(score, label, window=9).value, slow, rtol=1e-12)


def test_volume_knows_anomalies_at_both_ends_and_scores_without_a_rank() -> None:
    label = np.zeros(40, int)
    label[[0, 1, 20, 22, 39]] = 1
    for score in (np.zeros(40), np.arange(40.0), label.astype(float)):
        slow = naive.vus_pr((label > 0).tolist(), score.tolist(), 6)
        assert_allclose(vus_pr(score, label, window=6).value, slow, rtol=1e-12)


def test_leaving_a_block_out_is_to_have_its_rows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each replicate is the volume of the other rows, by the thresholds of all."""
    monkeypatch.setattr(vus, "N_THRESHOLDS", 1000)  # every score is one, in any part of the rows
    score, label = wandering(400, 4, 2.0, 0)
    surface = vus._surface(score, label, np.zeros(0, int), 10)
    _, *without = surface.volumes(10)
    assert len(without) > 3
    for block, volume in enumerate(without):
        rest = surface.block != block
        own = surface.block[rest]
        alone = vus_pr(score[rest], label[rest], window=10, series=own)
        assert_allclose(volume, alone.value, rtol=1e-9)


def test_window_of_0_is_average_precision_where_every_score_is_a_threshold() -> None:
    rng = np.random.default_rng(0)
    score, label = rng.permutation(250).astype(float), (rng.random(250) < 0.1).astype(int)
    singles = np.arange(250)  # each row is a series, so that a row found is an anomaly found
    found = vus_pr(score, label, window=0, series=singles).value
    order = np.argsort(-score)
    recall = np.cumsum(label[order]) / label.sum()
    precision = np.cumsum(label[order]) / np.arange(1, 251)
    assert_allclose(found, np.diff(recall**2, prepend=0) @ precision)  # of rows and of anomalies
    assert_allclose(np.diff(recall, prepend=0) @ precision, average_precision_score(label, score))


def test_series_do_not_reach_into_one_another() -> None:
    score, label = wandering(400, 4, 1.0, 1)
    label[196:204] = 1  # one anomaly ends a series, another begins the next
    series = np.repeat([0, 1], 200)
    far = np.zeros(50, int)
    apart = [np.concatenate([own[:200], gap, own[200:]])
             for own, gap in ((score, far - 9.0), (label, far - 1))]  # fmt: skip
    assert_allclose(
        vus_pr(score, label, window=12, series=series).value,
        vus_pr(apart[0], apart[1], window=12).value,
    )


def test_is_unchanged_by_increasing_maps_classes_and_time_run_backwards() -> None:
    score, label = wandering(900, 5, 1.0, 2)
    plain = vus_pr(score, label, window=15)
    assert vus_pr(np.exp(score), 3 * label, window=15) == plain
    assert_allclose(vus_pr(score[::-1], label[::-1], window=15).value, plain.value)


def test_unknown_rows_count_for_nothing() -> None:
    score, label = wandering(900, 5, 1.0, 3)
    unknown = label.copy()
    unknown[(np.arange(900) % 3 == 0) & (label == 0)] = -1
    found = vus_pr(score, unknown, window=15)
    few = np.repeat([0, 1, -1, 0], [30, 1, 8, 21])
    for own in (
        score[:60],
        np.where(few == 1, -1.0, np.arange(60.0)),
    ):  # in the second it is found last
        slow = naive.vus_pr((few > 0).tolist(), own.tolist(), 15, (few >= 0).tolist())
        assert_allclose(vus_pr(own, few, window=15).value, slow, rtol=1e-12)
    other = np.where(unknown < 0, 99.0, score)  # whatever they score
    assert vus_pr(other, unknown, window=15) == found


def test_interval_holds_the_volume_and_is_never_empty() -> None:
    label = np.repeat([0, 1, 0, 1, 0], 60)
    for score, value in ((label.astype(float), 1.0), (np.random.default_rng(0).random(300), None)):
        found = vus_pr(score, label, window=0)
        assert found.low < found.high
        assert found.low <= found.value <= found.high
        assert value is None or (found.value, found.high) == (1, 1)
    one = vus_pr(np.arange(100.0), np.repeat([0, 1], [90, 10]), window=5)
    assert one.low < 0.2  # one anomaly tells little
    wide, narrow = (vus_pr(*wandering(4000, 20, 2.0, 4), window=20, confidence=c)
                    for c in (0.99, 0.8))  # fmt: skip
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


@pytest.mark.slow
@pytest.mark.parametrize("n_faults", [4, 12])
def test_interval_holds_as_often_as_it_should(n_faults: int) -> None:
    """Were the coverage 90 %, each of the 2 checks would fail for one set of seeds in 1,000."""
    cases = [wandering(400 * n_faults, n_faults, 2.0, seed) for seed in range(120)]
    found = [vus_pr(*case, window=10) for case in cases]
    truth = np.mean([f.value for f in found])  # what it is of few rows depends on how many they are
    assert sum(f.low <= truth <= f.high for f in found) >= binom.ppf(1e-3, 120, 0.9)


def test_period_is_the_lag_of_the_highest_peak_of_the_autocorrelation() -> None:
    rng = np.random.default_rng(0)
    for lag in (12, 75, 250):
        column = np.sin(2 * np.pi * np.arange(3000) / lag) + 0.01 * rng.normal(size=3000)
        centred = column - column.mean()
        lags = [float(centred[k:] @ centred[: 3000 - k]) for k in range(401)]
        peaks = [k for k in range(4, 400) if lags[k - 1] < lags[k] > lags[k + 1]]
        assert period(column) == max(peaks, key=lambda k: lags[k]) or period(column) == 125
    assert period(np.full(500, 0.1)) == 125


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "published"), [("2-1", 0.25343), ("1-7", 0.45767)])
def test_volume_of_principal_components_is_the_published_one(
    machine: str, published: float
) -> None:
    """TSB-AD's PCA: a quarter of the variance, fitted on all rows of the series."""
    if not (DATA / "smd").is_dir():
        pytest.skip(f"smd is not under VAE_ANOMALY_DATA ({DATA})")
    rows, is_anomaly = tsb_ad.of_smd(DATA / "smd", f"machine-{machine}")
    z = StandardScaler().fit_transform(rows)
    z = z[:, (z != 0).any(axis=0)]
    fitted = PCA(n_components=0.25).fit(z)
    distance = np.linalg.norm(z[:, None] - fitted.components_[None], axis=-1)
    score = (distance / fitted.explained_variance_ratio_).sum(axis=1)
    found = vus_pr(score, is_anomaly.astype(int), window=period(rows[:, 0]))
    assert found.value == pytest.approx(published, abs=1e-5)


@pytest.mark.parametrize("labels", [[0, 0], [1, 2], [0, -1]])
def test_a_missing_class_is_refused(labels: list[int]) -> None:
    with pytest.raises(InputError, match="VUS-PR needs normal and anomalous rows; there are"):
        vus_pr([1.0, 2.0], labels, window=1)


def test_windows_and_series_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="window=-1"):
        vus_pr([1.0, 2.0], [0, 1], window=-1)
    for series in ([0], [0, 1, 0]):
        with pytest.raises(InputError, match="rows of one series standing together"):
            vus_pr([1.0, 2.0, 3.0], [0, 1, 0], window=1, series=series)
