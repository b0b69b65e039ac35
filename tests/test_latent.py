"""What one does with a fitted model beside judging, in the plant's own units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from linear_plant import NOISE, QUICK, D, fitted, loading, normal_rows, series, with_gaps
from numpy.testing import assert_allclose, assert_array_equal

from vae_anomaly import VAEDetector
from vae_anomaly.config import Contract, Sensor
from vae_anomaly.data.as_read import as_read, sensor_table
from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import InputError
from vae_anomaly.latent import (
    FittedAugmented,
    augment,
    embed,
    fit_augmented,
    generate,
    interpolate,
    map_of,
    reconstruct,
    stacked,
    told_apart,
    traverse,
)
from vae_anomaly.latent import (
    normal_rows as usable_rows,
)
from vae_anomaly.latent.windows import batch_of, raw_windows
from vae_anomaly.models.likelihoods import LocationScale
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer
from vae_anomaly.scoring.scorer import BLOCK_ROWS
from vae_anomaly.streaming import score_rows

UNITS = 10.0 ** (np.arange(D) - 2)


def matrix(rows: np.ndarray, *, lengths: tuple[int, ...] = ()) -> Matrix:
    run = np.concatenate([np.arange(n) for n in lengths or (len(rows),)])
    return Matrix(rows, run, np.zeros(len(rows), np.int64))


# ------------------------------------------------------------------------------ against the plant


def test_generated_rows_have_the_mean_and_covariance_of_the_plant() -> None:
    """Of the plant all is known: mean 50, covariance loading loading' + noise²."""
    n = 20_000
    rows = generate(fitted().scorer, n, seed=0).values
    true = loading() @ loading().T + NOISE**2 * np.eye(D)
    got = np.cov(((rows - 50) / UNITS).T)
    spread = np.sqrt(np.diag(true))
    # what the model itself was off when it had learnt from 1,500 rows: 4 of their standard errors
    assert (np.abs((rows.mean(axis=0) - 50) / UNITS) < 4 * spread / np.sqrt(1500)).all()
    assert (np.abs(got - true) / np.outer(spread, spread) < 4 * np.sqrt(2 / 1500)).all()


def test_noise_that_is_left_out_is_the_one_that_the_model_learnt() -> None:
    scorer = fitted().scorer
    assert isinstance(scorer.module.decoder, LocationScale)
    drawn, means = (generate(scorer, 20_000, seed=0, mean=m).values for m in (False, True))
    learnt = scorer.module.decoder.sigma.detach() * scorer.standardizer.scale
    assert_allclose((drawn - means).std(axis=0), learnt, rtol=0.03)


def test_context_moves_generated_rows_as_it_moves_the_plant() -> None:
    """Every sensor follows the condition with a slope of 2."""
    scorer = fitted(n_context=1).scorer
    low, high = (generate(scorer, 4000, context=[c], seed=0).values for c in (-1.0, 1.0))
    moved = ((high - low)[:, :D] / UNITS).mean(axis=0)
    assert_allclose(moved, np.full(D, 4.0), rtol=0.15)
    assert (high[:, D] == 1.0).all()


@pytest.mark.slow
def test_classifier_finds_no_difference_where_there_is_none() -> None:
    """Two samples of one plant: the 95 % interval holds 0.5 for 19 of 20 seeds or so."""
    held = 0
    for seed in range(8):
        found = told_apart(normal_rows(300, seed), normal_rows(300, 100 + seed), seed=seed)
        held += found.low <= 0.5 <= found.high
    assert held >= 6


@pytest.mark.slow
def test_classifier_finds_what_differs() -> None:
    real = normal_rows(600, 0)
    shuffled = np.random.default_rng(0).permuted(normal_rows(600, 1), axis=0)
    assert told_apart(real, shuffled).low > 0.8  # the same margins, no correlation
    holes = with_gaps(normal_rows(600, 2), 0.3)
    assert told_apart(real, holes).low > 0.8  # missing cells tell too


@pytest.mark.slow
def test_classifier_hardly_tells_augmented_rows_of_a_linear_plant_from_new_ones() -> None:
    scorer, given = fitted().scorer, matrix(normal_rows(1500, 0))
    new = augment(scorer, given, 1500, seed=0).matrix.values
    assert told_apart(normal_rows(1500, 5), new).value < 0.6


@pytest.mark.slow
def test_rows_of_a_kind_have_the_mean_of_that_kind() -> None:
    """Kind 1 has one sensor off by three of its standard deviations."""
    rows, label = normal_rows(1500, 0), np.zeros(1500, np.int64)
    label[::10] = 1
    rows[label == 1, 2] += 5
    scorer = fit_scorer(
        series(rows, label=label), series(normal_rows(300, 1)), n_context=0,
        variant=VARIANTS["semi_supervised"](), training=QUICK, seed=0,
    ).scorer  # fmt: skip
    normal, kind = (generate(scorer, 4000, seed=0, label=k) for k in (0, 1))
    moved = (kind.values - normal.values).mean(axis=0) / UNITS
    assert_allclose(moved[2], 5, atol=0.8)
    assert np.abs(np.delete(moved, 2)).max() < 1.0
    assert (kind.label == 1).all()
    with pytest.raises(InputError, match="label 3 is no class"):
        generate(scorer, 5, seed=0, label=3)


# ------------------------------------------------------------------------- the same as the module


@pytest.mark.parametrize("window", [1, 3])
def test_embedding_is_that_of_the_module(window: int) -> None:
    scorer = fitted(window=window).scorer
    given = matrix(with_gaps(normal_rows(BLOCK_ROWS + 300, 2)), lengths=(BLOCK_ROWS, 300))
    every = np.arange(len(given.run))
    batches = [
        batch_of(scorer, raw_windows(scorer, given, np.resize(rows, BLOCK_ROWS)))
        for rows in np.split(every, [BLOCK_ROWS])
    ]
    with torch.no_grad():
        expected = torch.cat([scorer.module.embed(block) for block in batches])
    assert_array_equal(embed(scorer, given), expected[: len(given.run)])
    few = every[::7]
    assert_array_equal(embed(scorer, given, few), expected[few])


def test_embedding_does_not_depend_on_how_rows_are_split() -> None:
    scorer, rows = fitted().scorer, normal_rows(700, 3)
    parts = [embed(scorer, matrix(part)) for part in (rows[:13], rows[13:])]
    assert_array_equal(np.concatenate(parts), embed(scorer, matrix(rows)))
    few = np.array([699, 3, 40])
    assert_array_equal(embed(scorer, matrix(rows), few), embed(scorer, matrix(rows))[few])


@pytest.mark.parametrize("window", [1, 3])
def test_reconstruction_of_the_last_row_is_what_the_scorer_expects(window: int) -> None:
    scorer, given = fitted(window=window).scorer, matrix(with_gaps(normal_rows(50, 4)))
    expected = scorer.expected(torch.from_numpy(given.values), torch.from_numpy(given.run))
    got = reconstruct(scorer, given, np.arange(50))
    assert got.shape == (50, window, D)
    assert_allclose(got[:, -1], expected, rtol=1e-5)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_ends_of_a_way_are_the_reconstructions_of_its_ends(variant: str, spherical: bool) -> None:
    scorer, given = fitted(variant).scorer, matrix(normal_rows(20, 4))
    way = interpolate(scorer, given, 3, 11, 9, spherical=spherical)
    assert len(way.values) == 9
    expected = reconstruct(scorer, given, [3, 11])[:, 0]
    assert_allclose(way.values[[0, -1]] / UNITS, expected / UNITS, rtol=1e-6, atol=1e-3)


def test_way_of_windows_is_a_series_a_step() -> None:
    scorer = fitted(window=3, n_context=1).scorer
    way = interpolate(scorer, matrix(normal_rows(20, 4, 1)), 3, 11, 5)
    assert way.values.shape == (15, D + 1)
    assert_array_equal(way.run, np.tile([0, 1, 2], 5))


def test_traversal_holds_the_other_latents() -> None:
    scorer, given = fitted().scorer, matrix(normal_rows(20, 4))
    z = embed(scorer, given)
    held = np.repeat(z[7][:, None], 3, axis=1)  # (k, m) the values that the row has anyway
    moved = traverse(scorer, given, 7, held)
    expected = np.repeat(reconstruct(scorer, given, [7])[0], 3 * z.shape[1], axis=0)
    assert_allclose(moved.values, expected, rtol=1e-5)


# ------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_augmented_rows_score_no_higher_than_normal_ones(variant: str, window: int) -> None:
    scorer, given = fitted(variant, window=window).scorer, matrix(normal_rows(900, 6))
    new = augment(scorer, given, 300, seed=0)
    assert len(new.matrix.values) == 300 * window
    last = slice(window - 1, None, window)
    theirs, ours = (np.median(score_rows(scorer, m).score[last]) for m in (given, new.matrix))
    assert ours < 2.5 * theirs
    assert variant != "gaussian" or ours > 0.4 * theirs  # with the noise that real rows have


def test_augmented_rows_are_near_their_own_row() -> None:
    scorer, given = fitted().scorer, matrix(normal_rows(400, 6))
    new = augment(scorer, given, 400, seed=0)
    assert sorted(new.near) == list(range(400))
    own = np.abs((new.matrix.values - given.values[new.near]) / UNITS).mean()
    other = np.abs((new.matrix.values - np.roll(given.values[new.near], 7, axis=0)) / UNITS).mean()
    assert own < other / 2


def test_temperature_goes_further_away() -> None:
    scorer, given = fitted().scorer, matrix(normal_rows(400, 6))
    expected = reconstruct(scorer, given, np.arange(400))[:, 0]
    away = [
        np.abs(
            augment(scorer, given, 400, seed=0, temperature=t, mean=True).matrix.values - expected
        )
        for t in (0.0, 1.0, 3.0)
    ]
    assert_allclose(away[0], 0, atol=1e-3)
    assert (away[1] / UNITS).mean() < (away[2] / UNITS).mean()


def test_what_is_missing_near_a_row_is_missing_in_the_new_one() -> None:
    scorer, given = fitted(window=3).scorer, matrix(with_gaps(normal_rows(300, 6), 0.2))
    new = augment(scorer, given, 200, seed=0)
    at = new.near[:, None] - [2, 1, 0]
    assert_array_equal(np.isnan(new.matrix.values).reshape(200, 3, D), np.isnan(given.values[at]))


def test_anomalies_and_half_windows_are_not_augmented() -> None:
    scorer = fitted(window=3).scorer
    given = matrix(normal_rows(12, 6), lengths=(6, 6))
    given.label[8] = 1
    assert_array_equal(usable_rows(scorer, given), [2, 3, 4, 5, 11])
    assert set(augment(scorer, given, 20, seed=0).near) == {2, 3, 4, 5, 11}


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_seed_gives_the_same_rows(variant: str) -> None:
    scorer, given = fitted(variant).scorer, matrix(normal_rows(50, 6))
    for seed, alike in ((0, True), (1, False)):
        assert (
            np.array_equal(
                generate(scorer, 9, seed=0).values, generate(scorer, 9, seed=seed).values
            )
            == alike
        )
        assert (
            np.array_equal(
                augment(scorer, given, 9, seed=0).matrix.values,
                augment(scorer, given, 9, seed=seed).matrix.values,
            )
            == alike
        )


def test_maps_keep_what_is_apart_apart() -> None:
    rng = np.random.default_rng(0)
    latents = np.concatenate([rng.normal(size=(60, 5)), rng.normal(size=(60, 5)) + 20])
    for kind in ("pca", "tsne"):
        points = map_of(latents, kind)  # type: ignore[arg-type]
        assert points.shape == (120, 2)
        center = points[:60].mean(axis=0), points[60:].mean(axis=0)
        radius = np.linalg.norm(points[:60] - center[0], axis=1).max()
        assert np.linalg.norm(center[1] - center[0]) > radius
    assert map_of(latents[:1], "pca").shape == (1, 2)
    assert map_of(latents[:, :1], "tsne").shape == (120, 2)


def test_maps_repeat() -> None:
    latents = np.random.default_rng(0).normal(size=(80, 4))
    assert_array_equal(map_of(latents, "tsne", seed=3), map_of(latents, "tsne", seed=3))


# -------------------------------------------------------------------------- training in two stages


class Stages(NamedTuple):
    """A scorer trained in stages, and the rows of each."""

    made: FittedAugmented
    rows: list[Series]


def two_stages(share: float, *, label: np.ndarray | None = None) -> Stages:
    """A scorer of 400 rows, and augmented ones."""
    seen: list[Series] = []
    train, stop = series(normal_rows(400, 0), label=label), series(normal_rows(100, 1))

    def fit(rows: Series, stage: int) -> FittedScorer:
        assert stage == len(seen)
        seen.append(rows)
        return fit_scorer(
            rows, stop, n_context=0, variant=VARIANTS["gaussian"](), training=QUICK, seed=0
        )

    return Stages(fit_augmented(train, stop, fit, share=share, seed=0), seen)


def test_second_stage_has_the_share_of_rows_more_and_says_how_they_look() -> None:
    made, (first, second) = two_stages(0.5)
    assert len(second.rows) == 600
    assert torch.equal(second.rows[:400], first.rows)
    assert set(second.run[400:].tolist()) == {0}  # each a series of its own
    note = made.fitted.notes[-1]
    assert "200 augmented rows beside 400 real ones" in note
    assert "with AUROC" in note
    assert made.first is not None


def test_no_share_means_one_stage() -> None:
    made, seen = two_stages(0.0)
    assert len(seen) == 1
    assert made.first is None
    assert not made.fitted.notes


def test_augmented_rows_keep_to_normal_rows_and_to_what_sensors_read() -> None:
    label = np.where(np.arange(400) % 2, 1, -1)
    _, (_, second) = two_stages(1.0, label=label)
    assert len(second.rows) == 600  # of the 200 that are not anomalies
    assert set(second.label[400:].tolist()) == {-1}


@pytest.mark.slow
def test_detector_augments_too() -> None:
    rows = normal_rows(400, 0)

    def scores(share: float) -> np.ndarray:
        training = QUICK.model_copy(update={"augment": share})
        detector = VAEDetector(training=training, false_alarm_rate=0.05, random_state=0)
        return detector.fit(rows).score_samples(rows)

    assert not np.array_equal(scores(0.0), scores(0.5))
    assert_array_equal(scores(0.5), scores(0.5))


# ------------------------------------------------------------------------------ as a plant reads it


def contract(**limits: float) -> Contract:
    return Contract(time="time", sensors=tuple(Sensor(name=f"s{i}", **limits) for i in range(D)))


def test_augmented_rows_pass_the_ranges_of_the_contract() -> None:
    scorer, given = fitted().scorer, matrix(normal_rows(400, 6))
    new = augment(scorer, given, 2000, seed=0, temperature=3.0).matrix
    found = as_read(new, contract(low=49.0, high=51.0))
    assert found.n_clipped
    assert found.matrix.values.min() >= 49.0
    assert found.matrix.values.max() <= 51.0
    inside = (new.values >= 49) & (new.values <= 51)
    assert_array_equal(found.matrix.values[inside], new.values[inside])
    assert sum(found.n_clipped.values()) == (~inside).sum()


def test_binary_sensors_read_0_or_1_and_levels_their_names() -> None:
    plant = Contract(
        time="time",
        sensors=(Sensor(name="valve", kind="binary"),),
        context=(Sensor(name="speed"), Sensor(name="gear", kind="categorical", levels=("A", "B"))),
    )
    rows = np.array([[0.3, 5.0, 1.0, 0.0], [1.7, np.nan, 0.2, 0.8], [np.nan, 1.0, 0.0, 0.0]])
    read = as_read(matrix(rows), plant).matrix
    assert sensor_table(read, plant).to_pydict() == {
        "valve": [0.0, 1.0, None],
        "speed": [5.0, None, 1.0],
        "gear": ["A", "B", None],
    }


def test_windows_lie_flat_one_a_row() -> None:
    scorer = fitted(window=3, n_context=1).scorer
    new = generate(scorer, 4, context=[0.0], seed=0)
    flat = stacked(new, 3, D)
    assert flat.shape == (4, 3 * D)
    assert_array_equal(flat[1, :D], new.values[3, :D])


# --------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_made_is_said() -> None:
    scorer, given = fitted().scorer, matrix(normal_rows(30, 0))
    with pytest.raises(InputError, match="n=0"):
        generate(scorer, 0, seed=0)
    with pytest.raises(InputError, match="this model has 0 context columns"):
        generate(scorer, 5, context=[1.0], seed=0)
    with pytest.raises(InputError, match=r"give shape \(1,\) or \(5, 1\)"):
        generate(fitted(n_context=1).scorer, 5, seed=0)
    with pytest.raises(InputError, match="learnt no kinds of anomalies"):
        generate(scorer, 5, seed=0, label=2)
    with pytest.raises(InputError, match="near 0 of 30"):
        augment(scorer, Matrix(given.values, given.run, np.ones(30, np.int64)), 5, seed=0)
    with pytest.raises(InputError, match="there are 30, from 0 on"):
        interpolate(scorer, given, 0, 30, 5)
    with pytest.raises(InputError, match="takes 6 columns"):
        embed(scorer, matrix(given.values[:, :2]))
    with pytest.raises(InputError, match="no rows to embed"):
        embed(scorer, matrix(given.values[:0]))
    with pytest.raises(InputError, match="at least 20 rows each"):
        told_apart(given.values, given.values[:5])
    with pytest.raises(InputError, match="map 'umap' is not known"):
        map_of(given.values, "umap")  # type: ignore[arg-type]
