"""The largest of several EWMAs: what it is, what it reads back, and what it finds sooner."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import naive
import numpy as np
import pytest
import torch
from linear_plant import D, fitted, normal_rows, series, with_gaps
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file, save_file

from vae_anomaly import Training, VAEDetector
from vae_anomaly.errors import InputError
from vae_anomaly.scoring.scorer import left_context
from vae_anomaly.scoring.smoothing import (
    CUT_WEIGHT_OF_SCALES,
    SCALES,
    held_in,
    kernel_length,
    multiscale,
    multiscale_error,
    smoothing_context,
    standard_ewma,
)
from vae_anomaly.scoring.specification import build_scorer, scorer_spec

QUICK = Training(epochs=2, min_steps=150, checks=5)


def some_scores(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Contributions with gaps and signs, and the scores that they sum to."""
    rng = np.random.default_rng(seed)
    parts = rng.chisquare(1, size=(n, d)) - 1
    parts[rng.random((n, d)) < 0.1] = 0
    return torch.from_numpy(parts.sum(axis=1)).float(), torch.from_numpy(parts).float()


def runs(*lengths: int) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])


def kernels() -> dict[float, int]:
    return {rate: kernel_length(rate, CUT_WEIGHT_OF_SCALES) for rate in SCALES}


# ---------------------------------------------------------------------------------- what it is


def test_largest_of_the_averages_equals_a_naive_loop() -> None:
    (score, parts), run = some_scores(380, 2), runs(1, 2, 40, 337)
    got, of_got = multiscale(score, parts, run)
    expected = naive.multiscale(score.tolist(), parts.tolist(), run.tolist(), kernels())
    assert_allclose(got, [value for value, _ in expected], rtol=1e-4, atol=1e-4)
    assert_allclose(of_got, [own for _, own in expected], rtol=1e-4, atol=1e-4)


def test_parts_sum_to_it() -> None:
    (score, parts), run = some_scores(3000, 5), runs(2000, 1, 999)
    got, of_got = multiscale(score, parts, run)
    assert_allclose(of_got.sum(dim=1), got, rtol=1e-4, atol=1e-4)


def test_it_is_never_below_the_score_and_equals_it_on_single_rows() -> None:
    (score, parts), run = some_scores(500, 2), runs(300, 200)
    assert (multiscale(score, parts, run)[0] >= score).all()
    got, of_got = multiscale(score, parts, torch.zeros_like(run))
    assert torch.equal(got, score)
    assert torch.equal(of_got, parts)


def test_a_steady_shift_grows_to_its_limit_at_the_slowest_scale() -> None:
    """A shift of c is c / sqrt(rate / (2 - rate)) in the end."""
    steady = torch.full((400,), 0.5)
    got = multiscale(steady, steady[:, None], torch.arange(400))[0]
    assert (got.diff() >= -1e-6).all()
    assert got[-1] == pytest.approx(0.5 / math.sqrt(0.03 / 1.97), rel=1e-3)


def test_values_are_held_in_beyond_five_and_grow_with_their_logarithm() -> None:
    z = torch.tensor([-9.0, 0.0, 5.0, 5.0 * math.e, 5e6], dtype=torch.float64)
    parts = torch.stack([0.25 * z, 0.75 * z], dim=1)
    held, of_held = held_in(z, parts)
    assert_allclose(held, [-9, 0, 5, 10, 5 * (1 + math.log(1e6))])
    assert_allclose(of_held, torch.stack([0.25 * held, 0.75 * held], dim=1))


def test_one_absurd_row_does_not_outshine_what_comes_after_it() -> None:
    """A shock of 1,000, and 20 rows later a lasting shift of 3, which is to be seen."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(200, generator=rng, dtype=torch.float64)
    z[100], run = 1000.0, torch.arange(200)
    z[120:] += 3.0
    smooth = multiscale(z, z[:, None], run)[0]
    assert smooth[100] == 1000.0  # the shock itself is as large as it is
    assert smooth[140:160].min() > smooth[105:120].max()
    slow = standard_ewma(z, run, min(SCALES))  # which it would be without
    assert slow[105:120].min() > 5 * smooth[140:160].max()


@pytest.mark.parametrize("rate", SCALES)
def test_an_average_of_normal_rows_has_variance_one_from_the_first_row_on(rate: float) -> None:
    """200,000 series of 40 rows; variances within 6 sd of an estimate, sqrt(2 / 200,000)."""
    z = torch.randn(200_000, 40, generator=torch.Generator().manual_seed(0))
    run = torch.arange(40).repeat(200_000)
    chart = standard_ewma(z.reshape(-1), run, rate).reshape(-1, 40)
    assert_allclose(chart.var(dim=0), 1.0, atol=6 * math.sqrt(2 / 200_000))


# ------------------------------------------------------------------------------- what it reads back


def test_kernels_leave_out_less_than_they_say() -> None:
    for rate, kernel in kernels().items():
        assert (1 - rate) ** kernel <= CUT_WEIGHT_OF_SCALES
        assert kernel == 1 or (1 - rate) ** (kernel // 2) > CUT_WEIGHT_OF_SCALES
    z = torch.randn(6000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got, averages = multiscale(z, z[:, None], torch.arange(6000))[0], dict.fromkeys(SCALES, 0.0)
    for t, value in enumerate(z.tolist()):  # from all rows before, by recursion
        averages = {k: (1 - k) * old + k * value for k, old in averages.items()}
        sds = {k: math.sqrt(k / (2 - k) * (1 - (1 - k) ** (2 * (t + 1)))) for k in SCALES}
        largest = max(averages[k] / sds[k] for k in SCALES)  # of values too small to be held in
        assert abs(largest - got[t]) < 5e-3  # of a standard deviation


def test_it_reads_back_255_rows() -> None:
    assert smoothing_context("auto") == 255
    assert left_context(3, "auto") == 257
    (score, parts), run = some_scores(600, 2), torch.arange(600)
    last = multiscale(score, parts, run)
    spoilt, spoilt_parts = score.clone(), parts.clone()
    spoilt[: 600 - 256], spoilt_parts[: 600 - 256] = 1e6, 1e6
    for value, same in zip(multiscale(spoilt, spoilt_parts, run), last, strict=True):
        assert torch.equal(value[-1], same[-1])
    spoilt[600 - 256] = 1e9
    slowest = min(SCALES)
    assert standard_ewma(spoilt, run, slowest)[-1] > standard_ewma(score, run, slowest)[-1] + 1


@pytest.mark.parametrize("smoothing", [0.0, 1.1, "slow", float("nan")])
def test_what_is_no_smoothing_is_refused(smoothing: float) -> None:
    with pytest.raises(InputError, match="must be a rate above 0 and at most 1, 'auto', or None"):
        smoothing_context(smoothing)


def test_rows_cut_anywhere_have_the_same_bits() -> None:
    (score, parts), run = some_scores(2500, 3), runs(1700, 3, 797)
    whole = multiscale(score, parts, run)
    rng = np.random.default_rng(0)
    cuts = [0, *sorted(rng.choice(np.arange(1, 2500), 15, replace=False)), 2500]
    for start, stop in pairwise(cuts):
        first = max(0, start - smoothing_context("auto"))
        known = torch.minimum(run[first:stop], torch.arange(stop - first))
        piece = multiscale(score[first:stop], parts[first:stop], known)
        for own, all_rows in zip(piece, whole, strict=True):
            assert torch.equal(own[start - first :], all_rows[start:stop])


def test_error_is_at_most_that_of_every_scale() -> None:
    """Errors that all rows share move the largest by no more than they move any average."""
    (score, parts), run = some_scores(400, 2), runs(100, 300)
    moved = multiscale(score + 0.2, parts, run)[0] - multiscale(score, parts, run)[0]
    assert (moved <= multiscale_error(torch.full((400,), 0.2), run) + 1e-5).all()


# ------------------------------------------------------------------------------ what a scorer does


def test_scorer_measures_scores_by_their_normal_level_and_spread() -> None:
    raw, smooth = (fitted(window=3, smoothing=s).scorer for s in (None, "auto"))
    rows, run, _ = series(with_gaps(normal_rows(900, 3)), runs=(500, 400))
    score, contributions = raw(rows, run)
    mean, sd = smooth.get_buffer("normal_mean"), smooth.get_buffer("normal_sd")
    expected = multiscale((score - mean.sum()) / sd, (contributions - mean) / sd, run)
    got = smooth(rows, run)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])
    assert_allclose(got[1].sum(dim=1), got[0], rtol=1e-4, atol=1e-4)
    stop = series(normal_rows(300, 1))
    held_out, parts = raw(stop.rows, stop.run)
    assert float(sd) == pytest.approx(float(held_out.std(correction=0)), rel=1e-4)
    assert_allclose(mean, parts.mean(dim=0), rtol=1e-4)


def test_what_scores_are_measured_by_travels(tmp_path: Path) -> None:
    scorer = fitted(smoothing="auto").scorer
    save_file(scorer.state_dict(), tmp_path / "scorer.safetensors")
    spec = scorer_spec(scorer)
    assert spec["smoothing"] == "auto"
    again = build_scorer(spec)
    again.load_state_dict(load_file(tmp_path / "scorer.safetensors"))
    rows, run, _ = series(normal_rows(400, 3))
    for one, other in zip(scorer(rows, run), again(rows, run), strict=True):
        assert torch.equal(one, other)


def test_a_drifted_sensor_is_found_by_what_each_row_alone_does_not_show() -> None:
    """A shift by three times its noise, of which the score alone finds less than half the rows."""
    raw, smooth = (fitted(smoothing=s).scorer for s in (None, "auto"))
    rows = normal_rows(1600, 9)
    fresh = normal_rows(1600, 8)
    rows[800:, 4] += 3 * 0.3 * 10.0**2
    shares, named = [], []
    for scorer in (raw, smooth):
        limit = torch.quantile(scorer(*series(fresh)[:2])[0], 0.99)
        score, contributions = scorer(*series(rows)[:2])
        shares.append(float((score[900:] > limit).float().mean()))
        named.append(float((contributions[900:].argmax(dim=1) == 4).float().mean()))
    assert shares[1] > 0.95
    assert shares[0] < 0.5
    assert named[1] > max(0.9, named[0])
    assert contributions.shape == (1600, D)


# ------------------------------------------------------------------------------------- detection


def chi_square_scores(n_series: int, n_rows: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Standardised scores as a squared distance of ten sensors has them, (n_series, n_rows)."""
    rng = np.random.default_rng(seed)
    scores = (rng.chisquare(10, size=(n_series, n_rows)) - 10) / math.sqrt(20)
    return torch.from_numpy(scores + shift).float()


def smoothed(scores: torch.Tensor) -> torch.Tensor:
    flat, run = scores.reshape(-1), torch.arange(scores.shape[1]).repeat(len(scores))
    return multiscale(flat, flat[:, None], run)[0].reshape(scores.shape)


@pytest.mark.slow
def test_first_rows_of_a_series_raise_no_more_alarms_than_later_ones() -> None:
    """Alarms at 1 % of later rows; each of the first rows within 6 sd of 20,000 series below."""
    normal = smoothed(chi_square_scores(20_000, 300, 0))
    threshold = torch.quantile(normal[:2000, 200:].flatten(), 0.99)
    alarms = (normal > threshold).float().mean(dim=0)
    assert (alarms[:60] < 0.01 + 6 * math.sqrt(0.01 / 20_000)).all()
    assert alarms[0] > 0.002  # and they are judged, not passed over
    assert (alarms[60:] < 0.014).all()


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_a_shift_is_found_sooner_than_by_the_score_at_equal_false_alarm_rate(shift: float) -> None:
    """Mean rows until the first alarm after row 300, at 0.1 % of normal rows."""
    delays = []
    normal, shifted = (chi_square_scores(400, 800, seed) for seed in (1, 2))
    shifted[:, 300:] += shift
    for of in (smoothed, lambda scores: scores):
        threshold = torch.quantile(of(normal)[:, 300:].flatten(), 0.999)
        found = of(shifted)[:, 300:] > threshold
        first = torch.where(found.any(dim=1), found.float().argmax(dim=1), 500)
        delays.append(float(first.float().mean()))
    assert delays[0] < 0.6 * delays[1]


@pytest.mark.slow
def test_false_alarm_rate_on_fresh_series_is_the_one_that_was_asked_for() -> None:
    """The threshold stands on 60 series, the rate on 200 fresh ones; wrong once in 1,000 seeds.

    Rows of one series go together, so both vary as shares of whole series do: within 3.3 sd.
    """
    rng = np.random.default_rng(0)

    def of_series(n_series: int) -> np.ndarray:
        load = rng.normal(size=(n_series, 500))
        for t in range(1, 500):
            load[:, t] = 0.9 * load[:, t - 1] + 0.44 * load[:, t]
        rows = load.reshape(-1, 1) @ np.array([[1.0, 2.0, -1.0]])
        return np.asarray(rows + 0.1 * rng.normal(size=rows.shape))

    detector = VAEDetector(
        window="auto", smoothing="auto", false_alarm_rate=0.05, random_state=0, training=QUICK
    ).fit(of_series(60), groups=np.repeat(np.arange(60), 500))
    alarms = detector.predict(of_series(200), groups=np.repeat(np.arange(200), 500)) == -1
    shares = alarms.reshape(200, 500)[:, -100:].mean(axis=1)  # as far from the start as it was set
    sd = shares.std(ddof=1) * math.sqrt(1 / 60 + 1 / 200)
    assert sd < 0.02
    assert abs(shares.mean() - 0.05) < 3.3 * sd


@pytest.mark.slow
def test_auto_makes_a_series_of_rows_and_a_table_stays_a_table() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 1)) @ [[1.0, 2.0, -1.0]] + 0.1 * rng.normal(size=(600, 3))

    def scorer_and_scores(**options: object) -> tuple[int, object, np.ndarray]:
        detector = VAEDetector(
            training=QUICK, random_state=0, false_alarm_rate=0.05, **options  # type: ignore[arg-type]
        ).fit(rows)  # fmt: skip
        scorer = detector.scorer_
        return scorer.window, scorer.smoothing, detector.score_samples(rows)

    table, twenty, auto, smooth = (
        scorer_and_scores(**options)
        for options in ({}, {"window": 20}, {"window": "auto"}, {"smoothing": "auto"})
    )
    assert [found[:2] for found in (table, twenty, auto, smooth)] == [
        (1, None), (20, None), (20, None), (1, "auto"),
    ]  # fmt: skip
    assert_array_equal(auto[2], twenty[2])
    assert not np.array_equal(table[2], smooth[2])


@pytest.mark.slow
def test_threshold_leaves_out_rows_that_remember_an_anomaly() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 1)) @ [[1.0, 2.0, -1.0]] + 0.1 * rng.normal(size=(3000, 3))
    label = np.zeros(3000, np.int64)
    detector = VAEDetector(smoothing="auto", false_alarm_rate=0.05, training=QUICK, random_state=0)
    spoilt = rows.copy()
    spoilt[2650:2680, 1] += 20.0
    label[2650:2680] = 1
    clean = float(detector.fit(rows).threshold_.value)
    assert float(detector.fit(spoilt, label).threshold_.value) < 1.3 * clean
    label[2390::200], spoilt[2390::200] = 1, 20.0
    with pytest.warns(UserWarning, match="has a labelled anomaly among the 255 rows"):
        detector.fit(spoilt, label)
