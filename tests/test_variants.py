"""The battery that every member of the family passes, over the table that lists them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from linear_plant import NATS, QUICK, fitted, normal_rows, series, suited, with_gaps
from numpy.testing import assert_allclose
from pydantic import JsonValue

from vae_anomaly.config import Training
from vae_anomaly.errors import ConfigError, InputError
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch, Scaling, Windows, fit_standardizer
from vae_anomaly.models.training import seeded, train
from vae_anomaly.models.vae import Model
from vae_anomaly.models.variants import (
    VARIANTS,
    Gaussian,
    Variant,
    variant_name,
    variant_of,
    variant_settings,
)
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.scoring.specification import build_scorer, scorer_spec

everyone = pytest.mark.parametrize("name", VARIANTS)


def batch(n: int, *, seed: int = 0, n_context: int = 0, name: str = "gaussian") -> Batch:
    """Rows as a member's networks see them."""
    rows = torch.from_numpy(normal_rows(n, seed, n_context))
    standardizer = fit_standardizer(rows, n_context, scaling=suited(name).scaling)
    return standardizer(torch.from_numpy(with_gaps(rows.numpy())))


def built(variant: Variant, like: Batch) -> Model:
    with seeded(0):
        return variant.build(Shape(like.x.shape[-1], like.context.shape[-1]))


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@everyone
@pytest.mark.parametrize("n_context", [0, 2])
@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_bound_is_one_finite_number_a_row(name: str, n_context: int, progress: float) -> None:
    variant, some = suited(name), batch(50, n_context=n_context, name=name)
    bound = variant.bound(built(variant, some), some, progress, noise())
    assert bound.shape == (50,)
    assert bound.isfinite().all()


@everyone
@pytest.mark.parametrize("n_context", [0, 2])
def test_gradient_reaches_every_parameter(name: str, n_context: int) -> None:
    variant, some = suited(name), batch(50, n_context=n_context, name=name)
    module = built(variant, some)
    variant.bound(module, some, 1.0, noise()).mean().backward()
    for path, parameter in module.named_parameters():
        if not parameter.requires_grad:  # fitted in the second stage
            continue
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
        assert (parameter.grad != 0).any(), path


@everyone
def test_training_raises_a_held_out_bound(name: str) -> None:
    variant = suited(name)
    some, other = batch(500, name=name), batch(200, seed=1, name=name)
    module = built(variant, some)
    before = variant.bound(module, other, 1.0, noise()).mean()
    train(module, variant.bound, Windows.whole(some), QUICK, held_out=other, seed=0)
    assert variant.bound(module, other, 1.0, noise()).mean() > before + 1.0 * NATS.get(name, 1.0)


@everyone
def test_ensemble_axis_goes_through(name: str) -> None:
    variant, some = suited(name), batch(50, name=name)
    stacked = Batch(*(torch.stack([part, part]) for part in some))
    assert variant.bound(built(variant, some), stacked, 1.0, noise()).shape == (2, 50)


@everyone
def test_what_is_missing_cannot_matter(name: str) -> None:
    variant, some = suited(name), batch(50, name=name)
    module = built(variant, some)
    absurd = some._replace(observed=torch.zeros_like(some.observed))
    kept = variant.bound(module, absurd, 1.0, noise())
    assert kept.isfinite().all()
    assert (kept <= 1e-6).all()  # nothing observed: only the divergence is left


@everyone
@torch.no_grad()
@pytest.mark.parametrize("scaling", ["range", (-50.0, 50.0)], ids=str)
def test_what_is_missing_looks_like_the_middle_of_the_range(name: str, scaling: Scaling) -> None:
    """Not like the lowest value that a sensor ever had, which 0 means here."""
    variant = replace(suited(name), scaling=scaling)
    hides = torch.rand(50, 6, generator=torch.Generator().manual_seed(1)) < 0.3
    x = torch.rand(50, 6, generator=noise())
    some = Batch(x, ~hides, torch.zeros(50, 0), torch.arange(50) % 2)
    with seeded(0):
        module = variant.build(Shape(6, n_classes=1))
    variant.bound(module.train(), some, 1.0, noise())  # has codes and kinds of anomalies after it
    module.eval()
    gap = some._replace(x=some.x.masked_fill(hides, 0.0))
    filled = some._replace(x=some.x.masked_fill(hides, 0.5))
    read = filled._replace(observed=torch.ones_like(hides))
    assert torch.equal(module.embed(gap), module.embed(read))
    assert torch.equal(module.spread(gap), module.spread(read))
    numbers = torch.randn(3, 50, module.noise_dim, generator=noise())
    # as if it had been read, but for its likelihood
    assert torch.equal(module.log_weights(gap, numbers), module.log_weights(filled, numbers))
    for label in (0, -1):
        bounds = [
            variant.bound(module, rows._replace(label=torch.full((50,), label)), 1.0, noise())
            for rows in (gap, filled)
        ]
        assert torch.equal(*bounds)


@everyone
def test_context_explains(name: str) -> None:
    """A condition that shifts all the sensors is worth nats; unrelated ones are not needed."""
    rows = normal_rows(1500, 0, n_context=1)
    blind = np.ascontiguousarray(rows[:, :-1])
    told = fitted(name, n_context=1).history.best.held_out_bound
    untold = fit_scorer(
        series(blind),
        series(np.ascontiguousarray(normal_rows(300, 1, n_context=1)[:, :-1])),
        n_context=0,
        variant=suited(name),
        training=QUICK,
        seed=0,
    ).history.best.held_out_bound
    assert told > untold + 0.3 * NATS.get(name, 1.0)


def rows_in_units(n: int, scale: float, offset: float) -> np.ndarray:
    return normal_rows(n, n) / 10.0 ** (np.arange(6) - 2) * scale + offset


@lru_cache
def scorer_in_units(name: str, scale: float, offset: float) -> Scorer:
    train, stop = (series(rows_in_units(n, scale, offset)) for n in (400, 100))
    variant = suited(name)
    return fit_scorer(train, stop, n_context=0, variant=variant, training=QUICK, seed=0).scorer


#: A code switches at once: last bits of a row, which units change, take the training elsewhere.
SWITCHING = ("vq",)


@everyone
@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1.0, 273.15), (1e-3, 0.0), (1.0, 1e6), (1e-3, 1e6), (1.8, 32.0)],
    ids=["Kelvin", "kilo", "offset", "offset and kilo", "Fahrenheit"],
)
def test_change_of_units_leaves_scores_unchanged(name: str, scale: float, offset: float) -> None:
    plain, changed = scorer_in_units(name, 1.0, 0.0), scorer_in_units(name, scale, offset)
    if name in SWITCHING:
        changed = Scorer(changed.standardizer, plain.module, variant=plain.variant)
    rows, same_rows = rows_in_units(100, scale, offset), rows_in_units(100, 1.0, 0.0)
    expected = plain(*series(same_rows)[:2])[0]
    assert_allclose(changed(*series(rows)[:2])[0], expected, atol=1e-3)


@everyone
def test_settings_survive_json(name: str) -> None:
    variant = suited(name)
    told = json.loads(json.dumps(variant_settings(variant)))
    assert variant_of(variant_name(variant), told) == variant


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gaussian", {"noise": "conditional", "prior": "conditional"}),
        ("gaussian", {"noise": 0.5, "scaling": "range"}),
        ("beta", {"beta": 100, "capacity": 2.0}),
        ("bernoulli", {"scaling": [-100, 100]}),
        ("student_t", {"nu": 7, "n_samples": 3}),
        ("linear", {"noise": "shared", "latent_dim": 2}),
    ],
)
def test_scorer_is_rebuilt_from_its_specification(
    name: str, settings: dict[str, JsonValue]
) -> None:
    rows = normal_rows(200, 0, n_context=1)
    rows[:, 3] = 20.0  # never varies: pixels stay in, sensors do not
    scorer = fit_scorer(
        series(rows), series(rows), n_context=1, variant=variant_of(name, settings),
        training=Training(min_steps=20, max_steps=20, checks=1), seed=0,
    ).scorer  # fmt: skip
    twin = build_scorer(json.loads(json.dumps(scorer_spec(scorer))))
    twin.load_state_dict(scorer.state_dict())
    assert twin.variant == scorer.variant
    assert scorer.standardizer.active[3] == (name == "bernoulli")
    some = series(normal_rows(50, 1, n_context=1))
    for mine, other in zip(scorer(*some[:2]), twin(*some[:2]), strict=True):
        assert torch.equal(mine, other)


def test_gaussian_settings_are_read_and_checked() -> None:
    assert variant_of("gaussian", {}) == Gaussian()
    wanted = Gaussian(latent_dim=3, hidden=(32,), noise=0.1, beta=4.0, warmup=0.0)
    told = {"latent_dim": 3, "hidden": [32], "noise": 0.1, "beta": 4, "warmup": 0}
    assert variant_of("gaussian", told) == wanted


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"latent": 3}, "unknown setting 'latent'; did you mean 'latent_dim'"),
        ({"latent_dim": 0}, "latent_dim=0 is not allowed; give 'auto' or at least 1"),
        ({"latent_dim": "four"}, "latent_dim"),
        ({"hidden": [64, 0]}, "hidden"),
        ({"hidden": "big"}, "hidden"),
        ({"noise": -1.0}, "noise"),
        ({"noise": "condition"}, "noise"),
        ({"beta": -0.1}, "beta"),
        ({"warmup": 1.5}, "warmup"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        variant_of("gaussian", settings)  # type: ignore[arg-type]


def test_wrong_settings_are_refused_in_python_too() -> None:
    with pytest.raises(ConfigError, match=r"beta=-1\.0 is not allowed"):
        Gaussian(beta=-1.0)
    with pytest.raises(ConfigError, match="noise='loud' is not allowed; give 'learned', 'cond"):
        Gaussian(noise="loud")  # type: ignore[arg-type]


def test_unknown_variant_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="'gausian' is not known; did you mean 'gaussian'"):
        variant_of("gausian", {})


def test_unlisted_variant_has_no_name() -> None:
    with pytest.raises(InputError, match="is not a variant"):
        variant_name(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_features", "latent_dim"), [(1, 2), (9, 4), (20, 5), (52, 8)])
def test_auto_latent_follows_the_width(n_features: int, latent_dim: int) -> None:
    vae = Gaussian().build(Shape(n_features))
    assert vae.embed(batch_of_zeros(n_features)).shape == (3, latent_dim)


def batch_of_zeros(n_features: int) -> Batch:
    zeros = torch.zeros(3, n_features)
    return Batch(zeros, zeros == 0, torch.zeros(3, 0), torch.zeros(3, dtype=torch.int64))


def test_beta_weighs_the_divergence_and_warms_up() -> None:
    some = batch(50)
    module = built(Gaussian(), some)

    def bound(beta: float, progress: float, warmup: float = 0.2) -> torch.Tensor:
        return Gaussian(beta=beta, warmup=warmup).bound(module, some, progress, noise()).detach()

    free, full = bound(0.0, 1.0), bound(1.0, 1.0)
    assert (full < free).all()
    assert_allclose(bound(3.0, 1.0), free - 3 * (free - full), rtol=1e-4)
    assert_allclose(bound(1.0, 0.1), free - 0.5 * (free - full), rtol=1e-4)
    assert torch.equal(bound(1.0, 0.0), free)
    assert torch.equal(bound(1.0, 0.0, warmup=0.0), full)


def test_fixed_noise_stays() -> None:
    some = batch(300)
    module = built(Gaussian(noise=0.5), some)
    train(module, Gaussian(noise=0.5).bound, Windows.whole(some), QUICK, held_out=some, seed=0)
    assert_allclose(module.decoder.sigma, 0.5, rtol=1e-6)
