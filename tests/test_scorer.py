"""A row has one score: however the rows are split, ordered, threaded, saved or smoothed."""

from __future__ import annotations

import json
import math
from itertools import pairwise, product

import naive
import numpy as np
import pytest
import torch
from linear_plant import (
    JUDGED,
    QUICK,
    D,
    faulty_rows,
    fitted,
    normal_rows,
    parts,
    series,
    with_gaps,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from vae_anomaly.errors import ConfigError, InputError, PackageError, PartsError
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.training import Check, seeded
from vae_anomaly.models.variants import VARIANTS, Gaussian
from vae_anomaly.scoring.fitting import fit_scorer, judged_by
from vae_anomaly.scoring.scorer import BLOCK_ROWS, Scorer, left_context
from vae_anomaly.scoring.scores import SCORES
from vae_anomaly.scoring.smoothing import Smoothing, ewma, kernel_length
from vae_anomaly.scoring.specification import build_scorer, scorer_spec

everyone = pytest.mark.parametrize("variant", VARIANTS)
everywhere = pytest.mark.parametrize(("variant", "score"), JUDGED)
shapes = pytest.mark.parametrize(
    ("window", "smoothing", "n_context"),
    [(1, None, 0), (1, 0.3, 1), (3, None, 1), (3, 0.3, 0), (3, "auto", 1)],
)


def some_series(n: int = 2500, *, n_context: int = 0) -> Series:
    rows = with_gaps(normal_rows(n, 3, n_context))
    return series(rows, runs=(n - 208, 1, 2, 5, 200))


def equal(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# -------------------------------------------------------------------------------- what it finds


#: To a Bernoulli these readings are coins, and it is trained with a divergence of weight 0.01: its
#: log p(x | c), where that weighs 1, is mostly divergence. Its reconstruction finds the faults.
#: Where latents lie says little of one sensor that is off, and of what is not normal in a latent
#: there is nothing in this plant. The nearest exemplar is in another state than the row, and all
#: its sensors differ, so that it finds faults and does not name them; squared errors of a member
#: with codes name sensors by their noise.
MISSED = (
    ("bernoulli", "importance"),
    *product(
        ("gaussian", "vq"), ("aggregate", "latent_distance", "exemplars", "local_outlier_factor")
    ),
    ("vq", "squared_error"),
)


@pytest.mark.parametrize(("variant", "score"), [pair for pair in JUDGED if pair not in MISSED])
@pytest.mark.parametrize("window", [1, 3])
def test_planted_faults_are_found_and_their_sensor_named(
    variant: str, score: str, window: int
) -> None:
    scorer = fitted(variant, window=window, anomaly_score=score).scorer
    faulty = faulty_rows(900, 7)
    got, contributions = scorer(*series(faulty.rows, runs=(1,) * 900)[:2])
    assert roc_auc_score(faulty.is_faulty, got) > 0.8
    blamed = contributions.argmax(dim=1).numpy()[faulty.is_faulty]
    shares = [np.mean(blamed[faulty.sensor[faulty.is_faulty] == j] == j) for j in range(D)]
    assert np.mean(shares) > 0.6
    assert np.bincount(blamed, minlength=D).min() > 0


@everyone
def test_expected_value_is_near_what_a_normal_sensor_reads(variant: str) -> None:
    scorer = fitted(variant, n_context=1).scorer
    rows = normal_rows(400, 8, n_context=1)
    rows[0, 2], rows[1] = np.nan, np.nan
    expected = scorer.expected(*series(rows)[:2])
    assert expected.shape == (400, D)
    assert expected.dtype == torch.float64
    assert expected.isfinite().all()
    error = np.nanstd(rows[:, :D] - expected.numpy(), axis=0)
    assert (error < 0.7 * np.nanstd(rows[:, :D], axis=0)).all()


def test_constant_sensors_are_judged_by_whether_they_change_and_expected_as_they_were() -> None:
    rows = normal_rows(400, 0)
    rows[:, 1], rows[:, 4] = 7.5, np.nan
    scorer = _fit(rows).scorer
    before, _ = scorer(*series(rows)[:2])
    rows[200:, 1], rows[:, 4] = 8.0, 1.0  # of the latter nothing is known
    score, contributions = scorer(*series(rows)[:2])
    surprise = torch.where(torch.arange(400) < 200, 0.0, 2 * math.log(402))
    assert_allclose(contributions[:, 1], surprise, rtol=1e-6)
    assert_allclose(score, before + surprise, rtol=1e-6)
    assert (contributions[:, 4] == 0).all()
    assert (contributions[:, [0, 2, 3, 5]] > 0).any(dim=0).all()
    expected = scorer.expected(*series(rows)[:2])
    assert (expected[:, 1] == 7.5).all()
    assert expected[:, 4].isnan().all()


@shapes
def test_missing_and_absurd_readings_leave_no_nan(
    window: int, smoothing: Smoothing, n_context: int
) -> None:
    scorer = fitted(window=window, smoothing=smoothing, n_context=n_context).scorer
    rows = with_gaps(normal_rows(60, 3, n_context), share=0.7)
    rows[10:20], rows[30], rows[31] = np.nan, np.inf, -1e300
    score, contributions = scorer(*series(rows)[:2])
    assert score.isfinite().all()
    assert contributions.isfinite().all()
    assert_allclose(contributions.sum(dim=1), score, rtol=1e-4, atol=1e-4)
    if window == 1 and smoothing is None:
        assert (contributions[np.isnan(rows[:, :D])] == 0).all()


# ------------------------------------------------------------------------------- one row, one score


@everyone
@shapes
def test_rows_split_anywhere_score_the_same_to_the_last_bit(
    variant: str, window: int, smoothing: Smoothing, n_context: int
) -> None:
    scorer = fitted(variant, window=window, smoothing=smoothing, n_context=n_context).scorer
    rows, run, _ = some_series(n_context=n_context)
    whole = scorer(rows, run)
    rng = np.random.default_rng(0)
    cuts = [0, *sorted(rng.choice(np.arange(1, 2500), 12, replace=False)), 2499, 2500]
    for start, stop in pairwise(cuts):
        first = max(0, start - scorer.left_context)
        known = torch.minimum(run[first:stop], torch.arange(stop - first))
        part = scorer(rows[first:stop], known)
        assert equal(
            tuple(t[start - first :] for t in part), tuple(t[start:stop] for t in whole)
        ), (start, stop)


@everyone
@shapes
def test_single_row_with_its_left_context_scores_as_in_the_whole(
    variant: str, window: int, smoothing: Smoothing, n_context: int
) -> None:
    scorer = fitted(variant, window=window, smoothing=smoothing, n_context=n_context).scorer
    rows, run, _ = some_series(n_context=n_context)
    score, contributions = scorer(rows, run)
    for i in (0, 1, 700, 1024, 2291, 2292, 2293, 2300, 2499):
        before = min(int(run[i]), scorer.left_context)
        alone = scorer(rows[i - before : i + 1], torch.arange(before + 1))
        assert torch.equal(alone[0][-1], score[i])
        assert torch.equal(alone[1][-1], contributions[i])


@everyone
@pytest.mark.parametrize("smoothing", [None, 0.3, "auto"])
def test_scores_of_samples_change_no_bit_wherever_the_rows_stand(
    variant: str, smoothing: Smoothing
) -> None:
    """The noise of the samples is one for all rows, and so is the error that it leaves."""
    options = {"smoothing": smoothing, "anomaly_score": "importance"}
    scorer = fitted(variant, **options).scorer  # type: ignore[arg-type]
    rows, run, _ = some_series(1100)
    whole = (*scorer(rows, run), scorer.standard_error(rows, run))
    assert all(part.isfinite().all() for part in whole)
    assert (whole[2] >= 0).all()
    assert variant == "vq" or (whole[2] > 0).any()
    for stop in (1, 7, 1030):
        part = (*scorer(rows[:stop], run[:stop]), scorer.standard_error(rows[:stop], run[:stop]))
        assert equal(part, tuple(some[:stop] for some in whole))
    order = torch.arange(1099, -1, -1)
    if smoothing is None:
        score, contributions = scorer(rows[order], torch.zeros_like(run))
        assert equal((score, contributions), (whole[0][order], whole[1][order]))


@pytest.mark.parametrize(
    ("variant", "score_name"),
    [*(("gaussian", name) for name in SCORES), *((variant, "fused") for variant in VARIANTS)],
)
def test_every_score_changes_no_bit_wherever_the_rows_stand(variant: str, score_name: str) -> None:
    """Nor does a gap, whose row is solved for by itself, change the rows beside it."""
    scorer = fitted(variant, window=3, anomaly_score=score_name).scorer
    rows, run, _ = some_series(1100)
    whole = scorer(rows, run)
    for start, stop in ((0, 1), (0, 7), (0, 1030), (500, 1100), (892, 1100)):
        first = max(0, start - scorer.left_context)
        known = torch.minimum(run[first:stop], torch.arange(stop - first))
        part = scorer(rows[first:stop], known)
        own = tuple(some[start - first :] for some in part)
        assert equal(own, tuple(some[start:stop] for some in whole)), (start, stop)
    alone = torch.zeros_like(run)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows)))
    score, contributions = scorer(rows, alone)
    assert equal(scorer(rows[order], alone), (score[order], contributions[order]))


@pytest.mark.parametrize("score_name", SCORES)
def test_absurd_readings_leave_every_score_finite(score_name: str) -> None:
    scorer = fitted(anomaly_score=score_name).scorer
    rows = with_gaps(normal_rows(60, 3), share=0.7)
    rows[10:20], rows[30], rows[31] = np.nan, np.inf, -1e300
    score, contributions = scorer(*series(rows)[:2])
    assert score.isfinite().all()
    assert (score[10:20] == 0).all()
    assert_allclose(contributions.sum(dim=1), score, rtol=1e-4, atol=1e-4)
    assert (contributions[np.isnan(rows)] == 0).all()


@shapes
def test_series_in_another_order_score_the_same(
    window: int, smoothing: Smoothing, n_context: int
) -> None:
    scorer = fitted(window=window, smoothing=smoothing, n_context=n_context).scorer
    rows, run, _ = some_series(n_context=n_context)
    starts = [*(run == 0).nonzero().flatten().tolist(), len(run)]
    runs = [torch.arange(a, b) for a, b in pairwise(starts)]
    order = torch.cat([runs[i] for i in (3, 0, 4, 2, 1)])
    score, contributions = scorer(rows, run)
    assert equal(scorer(rows[order], run[order]), (score[order], contributions[order]))


@everyone
def test_rows_permuted_score_the_same(variant: str) -> None:
    scorer, (rows, _, _) = fitted(variant).scorer, some_series()
    alone = torch.zeros(2500, dtype=torch.int64)
    order = torch.from_numpy(np.random.default_rng(0).permutation(2500))
    score, contributions = scorer(rows, alone)
    assert equal(scorer(rows[order], alone), (score[order], contributions[order]))


@pytest.mark.parametrize("n_threads", [2, 3, 7])
@shapes
def test_number_of_threads_changes_no_bit(
    window: int, smoothing: Smoothing, n_context: int, n_threads: int
) -> None:
    scorer = fitted(window=window, smoothing=smoothing, n_context=n_context).scorer
    rows, run, _ = some_series(n_context=n_context)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, n_threads):
            torch.set_num_threads(threads)
            found.append((*scorer(rows, run), scorer.expected(rows, run).nan_to_num()))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert equal(*found)


def test_noise_and_prior_that_follow_the_context_change_no_bit() -> None:
    rows, run, _ = some_series(n_context=2)
    variant = Gaussian(hidden=(8,), noise="conditional", prior="conditional")
    scorer = _fit(normal_rows(300, 0, n_context=2), variant=variant, n_context=2).scorer
    assert scorer.module.decoder.swing.weight.abs().max() > 0.01
    alone = torch.zeros_like(run)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows)))
    score, contributions = scorer(rows, alone)
    assert equal(scorer(rows[order], alone), (score[order], contributions[order]))
    assert equal(scorer(rows[:3], alone[:3]), (score[:3], contributions[:3]))


@pytest.mark.parametrize("d", [1, 2, 5, 10, 17, 33])
@pytest.mark.parametrize("hidden", [(), (10,), (64, 64)])
def test_widths_that_are_no_multiple_of_a_lane_change_no_bit(
    d: int, hidden: tuple[int, ...]
) -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(BLOCK_ROWS + 100, d)))
    run, variant = torch.zeros(len(rows), dtype=torch.int64), Gaussian(hidden=hidden)
    with seeded(0):
        module = variant.build(Shape(d))
    standardizer = _fit(np.random.default_rng(1).normal(size=(30, d)), steps=1).scorer.standardizer
    normal = standardizer(rows[:200])
    tensors = SCORES["fused"].fit(module.eval(), normal, normal)
    scorer = Scorer(standardizer, module, variant=variant, anomaly_score="fused", tensors=tensors)
    rows[::7, 0] = torch.nan
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows)))
    score, contributions = scorer(rows, run)
    assert equal(scorer(rows[order], run), (score[order], contributions[order]))
    assert equal(scorer(rows[:3], run[:3]), (score[:3], contributions[:3]))


@shapes
def test_no_rows_give_no_scores(window: int, smoothing: Smoothing, n_context: int) -> None:
    scorer = fitted(window=window, smoothing=smoothing, n_context=n_context).scorer
    rows, run, _ = some_series(n_context=n_context)
    score, contributions = scorer(rows[:0], run[:0])
    assert (score.shape, contributions.shape) == ((0,), (0, D))
    assert scorer.expected(rows[:0], run[:0]).shape == (0, D)


def test_scoring_draws_nothing_and_leaves_its_arguments_alone() -> None:
    scorer, (rows, run, _) = fitted(window=3, smoothing=0.3).scorer, some_series()
    before, copy = torch.get_rng_state(), rows.clone()
    assert equal(scorer(rows, run), scorer(rows, run))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(rows.nan_to_num(), copy.nan_to_num())
    assert not scorer.training


# ------------------------------------------------------------------------------ windows, smoothing


def test_window_score_equals_the_score_of_its_rows_laid_side_by_side() -> None:
    wide = fitted(window=3).scorer
    flat = Scorer(
        _standardizer_of_windows(wide), wide.module, variant=wide.variant, anomaly_score="auto"
    )
    rows, run, _ = some_series(300)
    laid = torch.tensor(naive.windows(rows.tolist(), run.tolist(), 3), dtype=torch.float64)
    score, contributions = wide(rows, run)
    alone = torch.zeros(300, dtype=torch.int64)
    expected, parts = flat(laid, alone)
    assert torch.equal(score, expected)
    assert_allclose(contributions, parts.reshape(300, 3, D).sum(dim=1), rtol=1e-6)
    assert_allclose(wide.expected(rows, run), flat.expected(laid, alone)[:, -D:], rtol=1e-9)


def test_smoothing_equals_a_naive_loop() -> None:
    rows, run, _ = some_series(900)
    rough, smooth = fitted().scorer, fitted(smoothing=0.3).scorer
    score, contributions = rough(rows, run)
    smoothed, parts = smooth(rows, run)
    kernel = kernel_length(0.3)
    assert_allclose(smoothed, naive.ewma(score.tolist(), run.tolist(), 0.3, kernel), rtol=1e-5)
    for j in range(D):
        expected = naive.ewma(contributions[:, j].tolist(), run.tolist(), 0.3, kernel)
        assert_allclose(parts[:, j], expected, rtol=1e-4, atol=1e-6)
    assert_allclose(parts.sum(dim=1), smoothed, rtol=1e-4)


@pytest.mark.parametrize("rate", [1.0, 0.9, 0.5, 0.2, 0.1, 0.03])
def test_kernel_leaves_out_less_than_it_says(rate: float) -> None:
    kernel = kernel_length(rate)
    assert (1 - rate) ** kernel <= 1e-4
    assert kernel == 1 or (1 - rate) ** (kernel // 2) > 1e-4  # and is no longer than it must be
    values, run = torch.randn(700, generator=torch.Generator().manual_seed(0)), torch.arange(700)
    expected = naive.ewma(values.tolist(), run.tolist(), rate, 700)
    assert_allclose(ewma(values, run, rate), expected, atol=2e-3)
    assert_allclose(ewma(torch.ones(700), run, rate), 1.0, rtol=1e-6)


def test_no_smoothing_at_rate_one() -> None:
    rows, run, _ = some_series(900)
    assert equal(fitted().scorer(rows, run), fitted(smoothing=1.0).scorer(rows, run))


def test_left_context_is_what_scores_need_and_no_more() -> None:
    assert left_context(1, None) == 0
    assert left_context(4, None) == 3
    assert left_context(4, 0.5) == 3 + kernel_length(0.5) - 1
    scorer = fitted(window=3, smoothing=0.3).scorer
    rows, run = torch.from_numpy(normal_rows(200, 3)), torch.arange(200)
    last = scorer(rows, run)[0][-1]
    need = scorer.left_context
    enough, short = (scorer(rows[-n:], torch.arange(n))[0][-1] for n in (need + 1, need))
    assert torch.equal(enough, last)
    assert not torch.equal(short, last)


# ----------------------------------------------------------------------------------------- fitting


def _fit(rows: np.ndarray, *, steps: int = 60, **options: object):
    training = QUICK.model_copy(update={"min_steps": steps, "max_steps": steps})
    options = {"n_context": 0, "variant": Gaussian(hidden=(8,)), "seed": 0} | options
    stop = options.pop("stop", series(rows[: max(1, len(rows) // 4)]))
    train = options.pop("train", series(rows))
    return fit_scorer(train, stop, training=training, **options)  # type: ignore[arg-type]


def _standardizer_of_windows(scorer: Scorer):
    """The standardiser of three rows laid side by side, from that of one."""
    one = scorer.standardizer
    wide = _fit(np.random.default_rng(0).normal(size=(30, 3 * D)), steps=1).scorer.standardizer
    wide.load_state_dict({name: tensor.repeat(3) for name, tensor in one.state_dict().items()})
    return wide


def test_same_seed_same_scorer_and_another_seed_another() -> None:
    rows, (some, run, _) = normal_rows(300, 0), some_series(900)
    one, two, other = (_fit(rows, seed=seed).scorer(some, run) for seed in (0, 0, 1))
    assert equal(one, two)
    assert not equal(one, other)


def test_another_score_of_the_same_model_is_as_if_fitted_with_it() -> None:
    train, stop = parts()
    options = {"train": train, "stop": stop, "anomaly_score": "fused"}
    direct = _fit(normal_rows(300, 0), **options).scorer
    plain = _fit(normal_rows(300, 0), **options | {"anomaly_score": "auto"}).scorer
    again = judged_by(plain, "fused", train=train, stop=stop)
    rows, run, _ = some_series(900)
    assert equal(again(rows, run), direct(rows, run))
    assert not equal(again(rows, run), plain(rows, run))


def test_labelled_anomalies_are_no_normal_rows_to_a_score() -> None:
    rows, label = normal_rows(300, 0), np.zeros(300, np.int64)
    label[::10] = 1
    spoilt = np.where(label[:, None] > 0, 1e5, rows)
    some, run, _ = some_series(900)
    found = [
        _fit(
            rows,
            train=series(values, label=label),
            stop=series(values, label=label),
            anomaly_score="fused",
        ).scorer(some, run)
        for values in (rows, spoilt)
    ]
    assert equal(*found)


def test_rows_near_a_labelled_anomaly_are_not_trained_on() -> None:
    """What a labelled anomaly reads, and where its windows reach, leaves no trace."""
    rows, label = normal_rows(300, 0), np.zeros(300, np.int64)
    label[[40, 41, 200]] = 2
    label[100:150] = -1  # unknown counts as normal
    spoilt = rows.copy()
    spoilt[label > 0] = 1e9
    fits = [
        _fit(rows, train=series(values, runs=(202, 98), label=label), window=3)
        for values in (rows, spoilt)
    ]
    some, run, _ = some_series(900)
    assert equal(fits[0].scorer(some, run), fits[1].scorer(some, run))
    left_out = 4 + 2  # 40..43, and 200, 201: the second series begins at 202
    assert fits[0].notes == (
        f"{left_out} of 300 rows are not trained on: their window holds a labelled anomaly, or "
        "no sensor has a value",
    )


def test_labelled_anomalies_do_not_decide_when_to_stop() -> None:
    rows, label = normal_rows(200, 0), np.zeros(200, np.int64)
    label[10] = 1
    spoilt = rows.copy()
    spoilt[10] = 1e9
    bounds = [
        _fit(rows, stop=series(values, label=label)).history.best.held_out_bound
        for values in (rows, spoilt)
    ]
    assert bounds[0] == bounds[1]


def test_unheard_of_rows_and_conditions_are_noted() -> None:
    rows = normal_rows(100, 0, n_context=2)
    rows[:5, :D], rows[:, -1] = np.nan, 3.0
    assert len(_fit(normal_rows(100, 0), steps=300).notes) == 0
    notes = _fit(rows, n_context=2).notes
    assert notes[0].startswith("5 of 100 rows are not trained on")
    assert notes[1] == "context column 2 never varies in training; it explains nothing"


def test_parts_without_a_usable_row_are_refused() -> None:
    rows, ones = normal_rows(50, 0), np.ones(50, np.int64)
    with pytest.raises(PartsError, match="none of the 50 rows of part 'stop' is normal"):
        _fit(rows, stop=series(rows, label=ones))
    with pytest.raises(PartsError, match="no sensor varies in the normal ones of the 50 rows"):
        _fit(rows, train=series(rows, label=ones))
    with pytest.raises(PartsError, match="there is nothing to learn"):
        _fit(np.full((50, 3), 2.0))


def test_wrong_arguments_are_refused_before_any_work() -> None:
    rows = normal_rows(50, 0)
    for options, error, says in (
        ({"window": 0}, InputError, "window=0 must be at least 1"),
        ({"smoothing": 0.0}, InputError, "smoothing=0.0 must be a rate above 0"),
        ({"smoothing": 1.5}, InputError, "smoothing=1.5"),
        ({"smoothing": "slow"}, InputError, "smoothing='slow' must be a rate"),
        ({"anomaly_score": "knn"}, ConfigError, "anomaly score 'knn' is not known"),
    ):
        with pytest.raises(error, match=says):
            _fit(rows, **options)


def test_misfitting_rows_are_refused() -> None:
    scorer, (rows, run, _) = fitted().scorer, some_series(900)
    with pytest.raises(InputError, match=r"give float64 of shape \(n, 6\)"):
        scorer(rows[:, :5], run)
    with pytest.raises(InputError, match="float32"):
        scorer(rows.float(), run)
    with pytest.raises(InputError, match=r"give int64 \(900,\)"):
        scorer(rows, run[:-1])
    with pytest.raises(InputError, match="the first has 0"):
        scorer(rows, run + 1)


def test_checks_are_passed_on_and_a_killed_fit_goes_on(tmp_path) -> None:
    rows, (some, run, _) = normal_rows(300, 0), some_series(900)
    steps: list[int] = []

    def stop_at_30(check: Check) -> None:
        steps.append(check.step)
        if check.step == 30:
            raise KeyboardInterrupt

    options = {"window": 2, "checkpoint": tmp_path / "checkpoint"}
    with pytest.raises(KeyboardInterrupt):
        _fit(rows, on_check=stop_at_30, **options)
    resumed = _fit(rows, on_check=lambda check: steps.append(check.step), **options)
    assert steps == [10, 20, 30, 30, 40, 50, 60]
    assert equal(resumed.scorer(some, run), _fit(rows, window=2).scorer(some, run))


# --------------------------------------------------------------------------------- to and from JSON


@everywhere
@shapes
def test_specification_and_state_rebuild_the_scorer(
    variant: str, score: str, window: int, smoothing: Smoothing, n_context: int
) -> None:
    options = {"window": window, "smoothing": smoothing, "n_context": n_context}
    scorer = fitted(variant, anomaly_score=score, **options).scorer  # type: ignore[arg-type]
    spec = json.loads(json.dumps(scorer_spec(scorer)))
    assert scorer_spec(scorer) == spec
    before = torch.get_rng_state()
    rebuilt = build_scorer(spec)
    assert torch.equal(torch.get_rng_state(), before)
    rebuilt.load_state_dict(scorer.state_dict())
    assert scorer_spec(rebuilt) == spec
    assert rebuilt.left_context == scorer.left_context
    rows, run, _ = some_series(1100, n_context=n_context)
    for n in (1, 7, 1000):
        assert equal(rebuilt(rows[:n], run[:n]), scorer(rows[:n], run[:n]))


def test_tensors_of_a_score_travel() -> None:
    scorer = fitted().scorer
    tensors = {"scale": torch.rand(3, 2), "centre": torch.rand(2, dtype=torch.float64)}
    told = Scorer(scorer.standardizer, scorer.module, variant=scorer.variant, tensors=tensors)
    rebuilt = build_scorer(scorer_spec(told))
    rebuilt.load_state_dict(told.state_dict())
    for name, tensor in rebuilt.tensors.named_buffers():
        assert_array_equal(tensor, tensors[name])
        assert tensor.dtype == tensors[name].dtype


@pytest.mark.parametrize(
    "change",
    [{"window": 0}, {"variant": 3}, {"extra": 1}, {"n_active": "many"}, {"tensors": {"a": 1}}],
)
def test_damaged_specification_is_refused(change: dict[str, object]) -> None:
    spec = scorer_spec(fitted().scorer) | change  # type: ignore[operator]
    with pytest.raises(PackageError, match="specification is not valid"):
        build_scorer(spec)
