"""VAEDetector keeps scikit-learn's promises, and the library's."""

from __future__ import annotations

import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from vae_anomaly import Training, VAEDetector
from vae_anomaly.models.variants import Ensemble, Gaussian, Mixed

pytestmark = pytest.mark.filterwarnings("ignore:.*calibration rows support")

QUICK = Training(epochs=2, min_steps=150, checks=5)


def plant(n: int, seed: int = 0) -> np.ndarray:
    """Three sensors that follow one load."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) @ [[1.0, 2.0, -1.0]] + 0.1 * rng.normal(size=(n, 3))


def planted(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which every tenth has its third sensor off the others' relation."""
    rows = plant(n, seed)
    faulty = np.arange(n) % 10 == 3
    rows[faulty, 2] += 1.0
    return rows, faulty


@pytest.mark.slow
@parametrize_with_checks([VAEDetector(training=QUICK, random_state=0)])
def test_estimator_check(estimator: VAEDetector, check: object) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*calibration rows support")
        warnings.filterwarnings("ignore", message=".*every row counts as normal")
        check(estimator)  # type: ignore[operator]


def test_planted_fault_is_found_and_named() -> None:
    detector = VAEDetector(random_state=0).fit(plant(1500))
    rows, faulty = planted(1000)
    assert roc_auc_score(faulty, -detector.score_samples(rows)) > 0.95
    top = detector.contributions(rows)[faulty].argmax(axis=1)
    assert np.mean(top == 2) > 0.8


def test_three_faces_agree() -> None:
    detector = VAEDetector(random_state=0, training=QUICK).fit(plant(600))
    rows, _ = planted(300)
    decision = detector.decision_function(rows)
    assert_array_equal(decision, detector.score_samples(rows) - detector.offset_)
    assert_array_equal(detector.predict(rows), np.where(decision >= 0, 1, -1))
    assert_allclose(
        detector.contributions(rows).sum(axis=1),
        -detector.score_samples(rows),
        rtol=1e-5,
        atol=1e-5,
    )


def test_same_seed_same_scores_and_a_pickle_keeps_them() -> None:
    rows, _ = planted(200)
    one, two = (VAEDetector(random_state=3, training=QUICK).fit(plant(500)) for _ in range(2))
    assert_array_equal(one.score_samples(rows), two.score_samples(rows))
    again = pickle.loads(pickle.dumps(one))
    assert_array_equal(again.score_samples(rows), one.score_samples(rows))


def test_labelled_anomalies_are_not_trained_on() -> None:
    rows, faulty = planted(2000)
    clean = VAEDetector(random_state=0, training=QUICK).fit(rows, faulty.astype(int))
    rows_test, faulty_test = planted(1000, seed=5)
    area = roc_auc_score(faulty_test, -clean.score_samples(rows_test))
    assert area > 0.9
    shifted = rows.copy()
    shifted[faulty] += 1e3  # whatever the anomalies are, the model is the same
    again = VAEDetector(random_state=0, training=QUICK).fit(shifted, faulty.astype(int))
    weights = again.scorer_.module.state_dict()
    for name, weight in clean.scorer_.module.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_unknown_labels_count_as_normal() -> None:
    rows = plant(500)
    detector = VAEDetector(random_state=0, training=QUICK)
    unknown = clone(detector).fit(rows, np.full(500, -1)).score_samples(rows)
    assert_array_equal(unknown, clone(detector).fit(rows).score_samples(rows))


def test_labels_without_normal_rows_are_left_aside_aloud() -> None:
    rows = plant(300)
    with pytest.warns(UserWarning, match="every row counts as normal"):
        detector = VAEDetector(random_state=0, training=QUICK).fit(rows, np.ones(300))
    assert_array_equal(
        detector.score_samples(rows),
        VAEDetector(random_state=0, training=QUICK).fit(rows).score_samples(rows),
    )


def test_missing_values_are_scored_and_contribute_nothing() -> None:
    rows = plant(800)
    rows[::7, 1] = np.nan
    detector = VAEDetector(random_state=0, training=QUICK).fit(rows)
    parts = detector.contributions(rows)
    assert np.isfinite(parts).all()
    assert_array_equal(parts[::7, 1], 0)


def test_window_scores_every_row_and_keeps_groups_apart() -> None:
    rows = plant(900)
    groups = np.repeat(["a", "b", "c"], 300)
    detector = VAEDetector(window=4, smoothing=0.3, random_state=0, training=QUICK)
    detector.fit(rows, groups=groups)
    together = detector.score_samples(rows, groups=groups)
    assert together.shape == (900,)
    alone = np.concatenate([detector.score_samples(rows[groups == g]) for g in "abc"])
    assert_array_equal(together, alone)
    mixed = np.arange(900).reshape(3, 300).T.reshape(-1)  # interleaved: a row of each in turn
    assert_array_equal(detector.score_samples(rows[mixed], groups=groups[mixed]), together[mixed])


def test_context_explains_and_is_not_judged() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(plant(900), columns=["flow", "power", "level"])
    frame["load"] = rng.normal(size=900)
    detector = VAEDetector(context=["load"], random_state=0, training=QUICK).fit(frame)
    assert detector.contributions(frame).shape == (900, 3)
    by_place = VAEDetector(context=[3], random_state=0, training=QUICK).fit(frame.to_numpy())
    assert_array_equal(by_place.score_samples(frame.to_numpy()), detector.score_samples(frame))
    with pytest.raises(ValueError, match="'lod' is not in X"):
        VAEDetector(context=["lod"]).fit(frame)


def test_too_few_rows_for_the_rate_are_said() -> None:
    with pytest.warns(UserWarning, match="needs 999"):
        detector = VAEDetector(false_alarm_rate=0.001, random_state=0, training=QUICK).fit(
            plant(200)
        )
    assert detector.supported_false_alarm_rate_ == pytest.approx(1 / 41)


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [60, 200, 1000])
def test_promised_rate_of_false_alarms_holds_for_tables_of_any_size(n_rows: int) -> None:
    """Mean rate over 16 fits: below the promise plus three standard deviations of that mean.

    The rate of one fit is Beta(k, m + 1 - k) at most, of m rows that set the threshold, so that its
    standard deviation is below the root of promise / (m + 2).
    """
    fresh, rates, promises = plant(2000, seed=99), [], []
    for seed in range(16):
        detector = VAEDetector(false_alarm_rate=0.05, training=QUICK, random_state=seed)
        detector.fit(plant(n_rows, seed=seed))
        rates.append(np.mean(detector.predict(fresh) == -1))
        promises.append(detector.supported_false_alarm_rate_)
    n_calibrate = n_rows // 5
    spread = np.sqrt(promises[0] / (n_calibrate + 2) / 16 + promises[0] / 2000)
    assert np.mean(rates) < promises[0] + 3 * spread
    assert np.mean(rates) > promises[0] / 3  # and it is used


def test_tables_are_judged_by_the_fused_score_and_what_has_an_order_by_the_variants_own() -> None:
    rows = plant(200)

    def score_of(**settings: object) -> str:
        detector = VAEDetector(training=QUICK, random_state=0, **settings)  # type: ignore[arg-type]
        return detector.fit(rows).scorer_.anomaly_score

    assert score_of() == "fused"
    assert score_of(anomaly_score="residual") == "residual"
    assert [score_of(window=2), score_of(smoothing=0.3)] == ["pooled_density"] * 2
    own = Gaussian().default_score
    assert [score_of(variant="gaussian", window=2), score_of(context=[0])] == [own] * 2
    assert Gaussian(backbone="image", image=(1, 28, 28)).table_score == own


def test_what_a_series_says_of_itself_chooses_member_window_and_context() -> None:
    """Flags explain and are not judged, unless there is nothing else, or one says otherwise."""
    rng = np.random.default_rng(0)
    flags = rng.integers(0, 2, size=(300, 3)).astype(float)
    flags[:, 2] = 0.0
    rows = np.column_stack([flags[:, 0], plant(300), flags[:, 1:]])

    def fitted(X: np.ndarray, **settings: object) -> VAEDetector:
        settings = {"window": "auto", "training": QUICK, "random_state": 0} | settings
        return VAEDetector(**settings).fit(X)  # type: ignore[arg-type]

    auto = fitted(rows)
    n_judged = rows.shape[1] - 3
    assert auto.context_ == (0, n_judged + 1, n_judged + 2)
    assert auto.contributions(rows[:5]).shape == (5, n_judged)
    assert isinstance(auto.scorer_.variant, Ensemble)
    assert auto.scorer_.window == round(60 / n_judged)
    assert fitted(rows, window=1).context_ == ()
    assert fitted(rows, context=()).context_ == ()
    assert fitted(rows, context=[1]).context_ == (1,)
    assert fitted(flags).context_ == ()
    rows[7, 0] = 0.5
    assert fitted(rows).context_ == auto.context_[1:]
    codes = fitted(rows, categorical=[n_judged + 1])
    assert codes.context_ == (n_judged + 2,)
    assert isinstance(codes.scorer_.variant, Mixed)


def test_a_series_in_which_nothing_varies_is_judged_by_its_changes_and_a_table_refused() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.full(500, -1.0), rng.integers(0, 2, 500)])
    series = VAEDetector(window="auto", smoothing="auto", random_state=0).fit(rows)
    assert series.scorer_.called == "baseline changes"
    assert (series.predict(rows) == 1).all()
    rows[400, 0] = 3.0
    assert series.predict(rows)[[399, 400, 499]].tolist() == [1, -1, 1]
    with pytest.raises(ValueError, match="learns no labels after fit"):
        series.learn_labels(rows, np.arange(500) == 400)
    with pytest.raises(ValueError, match="no sensor varies"):
        VAEDetector(random_state=0).fit(np.ones((50, 2)))


def test_series_are_learnt_whole_and_the_threshold_stands_on_rows_that_were_not_learnt() -> None:
    """In the last fifth a sensor has moved: it is known, and the threshold says how new it was."""
    rows = plant(1000)
    rows[800:, 1] += 30.0
    settings = {"smoothing": "auto", "training": QUICK, "random_state": 0, "labels": "off"}
    detector = VAEDetector(**settings).fit(rows)  # type: ignore[arg-type]
    first, last = (trained.scorer for trained in detector._trained)
    assert detector.scorer_ is last
    score, of_first = (
        scorer(torch.from_numpy(rows), torch.arange(1000))[0][800:] for scorer in (last, first)
    )
    assert of_first.min() > 5 * score.max()
    assert detector.threshold_.value > of_first.quantile(0.9)
    for name in ("normal_mean", "normal_sd"):
        assert torch.equal(first.get_buffer(name), last.get_buffer(name))


def test_table_is_learnt_again_with_the_rows_that_set_the_threshold() -> None:
    rows = np.concatenate([plant(400), plant(400) + 0.01])  # each row has a twin
    detector = VAEDetector(training=QUICK, random_state=0).fit(rows)
    first, last = (trained.scorer for trained in detector._trained)
    assert detector.scorer_ is last
    assert [len(one.tensors.get_buffer("exemplars")) for one in (first, last)] == [640, 800]
    held, none = detector._calibration
    score = first(held.rows, held.run)[0]
    assert none.all()
    assert len(score) == 160
    rank = int((score <= detector.threshold_.value).sum())
    assert rank == math.ceil(0.99 * 161)  # the conformal quantile of scores that were not learnt
    again = VAEDetector(training=QUICK, random_state=0).fit(rows)
    assert_array_equal(again.score_samples(rows), detector.score_samples(rows))


@pytest.mark.parametrize("smoothing", [None, "auto"])
def test_what_the_doctor_did_is_noted_though_it_is_learnt_again(smoothing: str | None) -> None:
    """So few steps leave the latent of one linear layer unused, and it is trained again."""
    one = Gaussian(latent_dim=1, hidden=())
    settings = {"smoothing": smoothing, "training": QUICK, "random_state": 0}
    detector = VAEDetector(one, **settings).fit(plant(300))  # type: ignore[arg-type]
    assert any("trained again with" in note for note in detector.notes_)
    assert detector.history_.events
    assert {str(event) for event in detector.history_.events} <= set(detector.notes_)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false_alarm_rate"):
        VAEDetector(false_alarm_rate=rate, training=QUICK, random_state=0).fit(plant(200))


def test_variant_may_be_its_settings() -> None:
    training = QUICK.model_copy(update={"min_steps": 600})  # fewer, and the doctor changes them
    detector = VAEDetector(Gaussian(latent_dim=1, hidden=()), random_state=0, training=training)
    assert detector.fit(plant(300)).scorer_.variant == Gaussian(latent_dim=1, hidden=())
    with pytest.raises(ValueError, match="gaussian"):
        VAEDetector("gausian").fit(plant(300))


def test_global_random_numbers_are_left_alone() -> None:
    before = (np.random.get_state()[1].copy(), torch.get_rng_state())
    VAEDetector(training=QUICK, random_state=0).fit(plant(300))
    assert_array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
