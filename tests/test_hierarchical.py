"""A ladder's bound is a bound on the density of its levels, and with one level it is the VAE's."""

from __future__ import annotations

import math
from dataclasses import replace

import naive
import numpy as np
import pytest
import torch
from linear_plant import QUICK, normal_rows
from numpy.testing import assert_allclose
from scipy.stats import kstest

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.ladder import LadderVAE, divergences, merge
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import diagonal
from vae_anomaly.models.standardize import Batch, Windows, fit_standardizer
from vae_anomaly.models.training import seeded, train
from vae_anomaly.models.vae import VAE, elbo, importance_bound
from vae_anomaly.models.variants import Gaussian, Hierarchical, variant_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def batch_of(x: torch.Tensor, n_context: int = 0) -> Batch:
    """Rows (*, n, d), NaN = missing, with a context drawn at random."""
    context = random(*x.shape[:-1], n_context, seed=1)
    label = torch.zeros(x.shape[:-1], dtype=torch.int64)
    return Batch(x.nan_to_num(0.0), ~x.isnan(), context, label)


def untrained(variant: Hierarchical, n_sensors: int, n_context: int = 0) -> LadderVAE:
    with seeded(0):
        model = variant.build(Shape(n_sensors, n_context))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def of_one_and_one(n_context: int = 0, d: int = 4) -> LadderVAE:
    """Two levels of one latent each."""
    return untrained(Hierarchical(latent_dim=1, n_levels=2, hidden=(6,)), d, n_context)


@torch.no_grad()
def vague(model: LadderVAE) -> LadderVAE:
    """The model with wide posteriors, whose importance weights have thin tails."""
    for k, net in zip(model.dims, model.up, strict=True):
        net.layers[-1].weight[k : 2 * k].zero_()
        net.layers[-1].bias[k : 2 * k] = 0.5
    return model


@torch.no_grad()
def integrated(model: LadderVAE, batch: Batch) -> torch.Tensor:
    """log p(x | c) of each row by a grid over both latents, (n,)."""
    n = len(batch.x)
    z2 = torch.linspace(-6, 6, 241)[:, None, None].expand(-1, n, 1)  # (g, n, 1)
    prior = diagonal(model.down[0](z2, batch.context))
    log_p2 = model.prior(batch.context).log_prob(z2)
    t = torch.linspace(-6, 6, 241)[:, None, None, None]
    z1 = prior.mean + prior.stddev * t  # (g, g, n, 1): steps of the level's own width
    log_p1 = prior.log_prob(z1) + prior.stddev.log().squeeze(-1)
    z = torch.cat([z1, z2.expand_as(z1)], dim=-1)
    log_x = model.likelihood(z, batch.context).log_prob(batch.x).sum(dim=-1)
    step = 12 / 240
    return (log_x + log_p1 + log_p2).flatten(0, 1).logsumexp(dim=0) + 2 * math.log(step)


# ---------------------------------------------------------------------------------------- oracles


def test_merge_is_the_product_of_two_densities() -> None:
    one, other = diagonal(random(1, 2)), diagonal(random(1, 2, seed=1))
    x = torch.linspace(-8, 8, 2001)[:, None]
    log_product = one.log_prob(x) + other.log_prob(x)
    log_product -= log_product.logsumexp(dim=0) + math.log(16 / 2000)
    assert_allclose(merge(one, other).log_prob(x), log_product, atol=1e-3)
    assert_allclose(merge(other, one).mean, merge(one, other).mean)


@pytest.mark.parametrize("n_context", [0, 2])
@pytest.mark.parametrize("prior", ["standard", "conditional"])
@torch.no_grad()
def test_one_level_is_the_plain_vae(n_context: int, prior: str) -> None:
    settings = {"hidden": (8,), "latent_dim": 3, "prior": prior}
    ladder = untrained(Hierarchical(n_levels=1, **settings), 5, n_context)  # type: ignore[arg-type]
    plain = Gaussian(**settings).build(Shape(5, n_context))  # type: ignore[arg-type]
    state = {k.replace("up.0.", "encoder.net."): v for k, v in ladder.state_dict().items()}
    plain.load_state_dict(state)
    assert isinstance(plain, VAE)
    batch, noise = batch_of(random(20, 5), n_context), random(6, 20, 3, seed=2)
    for options in ({}, {"beta": 0.3}, {"free_bits": 0.5}):
        bounds = (
            f(m, batch, generator=generator(), **options)
            for f, m in ((elbo, ladder), (elbo, plain.eval()))
        )
        assert torch.equal(*bounds)
    assert torch.equal(ladder.log_weights(batch, noise), plain.log_weights(batch, noise))
    assert torch.equal(ladder.embed(batch), plain.embed(batch))
    assert torch.equal(ladder.spread(batch), plain.spread(batch))
    drawn = [model.draw(batch.context, generator()) for model in (ladder, plain)]
    assert torch.equal(*drawn)
    assert_allclose(ladder.figures(batch)["divergence"], plain.figures(batch)["divergence"])


@pytest.mark.parametrize("n_context", [0, 2])
@torch.no_grad()
def test_bound_stays_below_the_integrated_density_and_comes_near(n_context: int) -> None:
    model = of_one_and_one(n_context)
    batch = batch_of(random(8, 4), n_context)
    log_density = integrated(model, batch)
    many = Batch(*(part.expand(4000, *part.shape) for part in batch))
    single = elbo(model, many, generator=generator()).mean(dim=0)
    assert (single <= log_density + 0.02).all()
    assert (single < log_density - 0.1).any()
    model = vague(model)  # the density is that of the decoder: it stays the same
    weighted = importance_bound(model, batch, n_samples=50_000, generator=generator())
    assert_allclose(weighted, log_density, atol=0.05)


@torch.no_grad()
def test_divergences_of_the_levels_are_log_q_less_log_p_on_the_mean() -> None:
    """Each row's and level's within four standard errors; one in 400 seeds would fail."""
    model, batch = untrained(Hierarchical(hidden=(6,), n_levels=3), 9), batch_of(random(6, 9))
    noise = random(40_000, 6, model.noise_dim)
    gaps, rungs = [], model.rungs(batch, noise)
    for rung in rungs:
        log_ratio = rung.posterior.log_prob(rung.z) - rung.prior.log_prob(rung.z)
        gaps.append(log_ratio - divergences(rung).sum(dim=-1))  # (s, n)
        assert divergences(rung).sum(dim=-1).min() > 0.05
    for gap in (*gaps, sum(gaps)):
        assert (gap.mean(dim=0).abs() < 4 * gap.std(dim=0) / 200).all()
    z = torch.cat([rung.z for rung in rungs], dim=-1)
    log_x = model.likelihood(z, batch.context).log_prob(batch.x).sum(dim=-1)
    kl = sum(divergences(rung).sum(dim=-1) for rung in rungs)
    assert_allclose(model.log_weights(batch, noise), log_x - kl - sum(gaps), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_linear_levels_are_factor_analysis() -> None:
    """x = W1 z1 + W2 z2 + noise with z1 = A z2 + b + s e has a covariance in closed form."""
    model = vague(untrained(Hierarchical(hidden=(), latent_dim=2, n_levels=2), 5))
    down, out = model.down[0].layers[0], model.decoder.net.layers[0]
    down.weight[2:].zero_()  # the width of the lower level is the same everywhere
    A, (b, log_s) = down.weight[:2].numpy(), down.bias.numpy().reshape(2, 2)
    W1, W2 = np.split(out.weight.numpy(), [2], axis=1)
    loading = np.hstack([W1 * np.exp(log_s), W1 @ A + W2])
    mean, sigma = out.bias.numpy() + W1 @ b, model.decoder.sigma.numpy()
    x = random(12, 5)
    x[3, 2] = torch.nan
    got = importance_bound(model, batch_of(x), n_samples=100_000, generator=generator())
    expected = [naive.factor_analysis(row, loading, mean, sigma) for row in x.double().numpy()]
    assert_allclose(got, expected, atol=0.1)


@torch.no_grad()
def test_draws_follow_the_levels_from_the_top_down() -> None:
    """Each level, freed of what the one above expects, is standard normal (one in 1000 seeds)."""
    model = untrained(Hierarchical(hidden=(6,), latent_dim=4, n_levels=3), 5, n_context=1)
    context = random(20_000, 1, seed=3)
    z = model.draw(context, generator())
    assert z.shape == (20_000, 4 + 2 + 1)
    low, middle, top = torch.split(z, [4, 2, 1], dim=-1)
    free = [top]
    for net, level, above in ((model.down[1], middle, top), (model.down[0], low, middle)):
        prior = diagonal(net(above, context))
        free.append((level - prior.mean) / prior.stddev)
    standard = torch.cat(free, dim=-1).double().numpy()
    for column in standard.T:
        assert kstest(column, "norm").pvalue > 1e-4
    assert_allclose(np.corrcoef(standard.T), np.eye(7), atol=0.03)
    assert not np.allclose(np.corrcoef(z.T), np.eye(7), atol=0.03)


@torch.no_grad()
def test_embedding_passes_means_down() -> None:
    model, batch = untrained(Hierarchical(hidden=(6,), latent_dim=2), 5), batch_of(random(9, 5))
    z, spread = model.embed(batch), model.spread(batch)
    mu2, log_sigma2 = model.up[1](model.up[0](batch.x, batch.context)[:, 4:], batch.context).split(
        1, -1
    )
    assert_allclose(z[:, 2:], mu2, rtol=1e-6)
    assert_allclose(spread[:, 2:], log_sigma2.exp(), rtol=1e-6)
    mu1, log_sigma1 = model.up[0](batch.x, batch.context)[:, :4].split(2, -1)
    expected1, log_width1 = model.down[0](mu2, batch.context).split(2, -1)
    precision = (-2 * log_sigma1).exp() + (-2 * log_width1).exp()
    mean = ((-2 * log_sigma1).exp() * mu1 + (-2 * log_width1).exp() * expected1) / precision
    assert_allclose(z[:, :2], mean, rtol=1e-4, atol=1e-6)
    assert_allclose(spread[:, :2], precision.rsqrt(), rtol=1e-5)


# ------------------------------------------------------------------------------------- properties


def test_sample_axes_and_ensembles_go_through() -> None:
    model, batch = of_one_and_one(2), batch_of(random(3, 10, 4), n_context=2)
    assert model.log_weights(batch, random(5, 3, 10, 2)).shape == (5, 3, 10)
    assert model.log_weights(batch, random(5, 3, 1, 2)).shape == (5, 3, 10)
    assert model.embed(batch).shape == model.spread(batch).shape == (3, 10, 2)
    assert model.draw(batch.context, generator()).shape == (3, 10, 2)


@torch.no_grad()
def test_figures_tell_each_level_apart() -> None:
    model, batch = untrained(Hierarchical(n_levels=3), 9), batch_of(random(50, 9))
    figures = model.figures(batch)
    by_level = [figures[f"divergence_level_{level}"] for level in (1, 2, 3)]
    assert min(by_level) > 0
    assert_allclose(sum(by_level), figures["divergence"])
    assert figures == model.figures(batch)  # drawn, but always the same


def test_beta_warmup_and_free_bits_apply() -> None:
    batch = batch_of(random(50, 4))
    plain = Hierarchical(hidden=(6,), warmup=0.2)
    model = untrained(plain, 4)

    def bound(variant: Hierarchical, progress: float = 1.0) -> torch.Tensor:
        return variant.bound(model, batch, progress, generator()).detach()

    free, full = bound(plain, 0.0), bound(plain)
    assert (full < free).all()
    assert_allclose(bound(plain, 0.1), free - 0.5 * (free - full), rtol=1e-4)
    assert_allclose(bound(replace(plain, beta=3.0)), free - 3 * (free - full), rtol=1e-4)
    generous = replace(plain, free_bits=100.0)
    assert torch.equal(bound(generous), full)  # an aid to training alone
    model.train()
    assert_allclose(bound(generous), free - 100.0 * model.noise_dim, rtol=1e-4)


def test_more_samples_give_a_tighter_bound() -> None:
    batch, model = batch_of(random(400, 4)), of_one_and_one()
    one, many = Hierarchical(), Hierarchical(n_samples=50)
    with torch.no_grad():
        means = [float(v.bound(model, batch, 1.0, generator()).mean()) for v in (one, many)]
    assert means[1] > means[0] + 0.05


@pytest.mark.slow
def test_levels_are_learnt_and_the_bound_is_near_that_of_the_truth() -> None:
    """Rows of a linear plant: what the levels add must not cost more than half a nat a row."""
    rows = torch.from_numpy(normal_rows(2000, 0))
    batch = fit_standardizer(rows, 0)(rows)
    held_out = Batch(*(part[1500:] for part in batch))
    learnt = Windows.whole(Batch(*(part[:1500] for part in batch)))
    bests = []
    for variant in (Gaussian(hidden=(16,)), Hierarchical(hidden=(16,))):
        with seeded(0):
            model = variant.build(Shape(6))
        training = QUICK.model_copy(update={"min_steps": 1500, "max_steps": 1500})
        history = train(model, variant.bound, learnt, training, held_out=held_out, seed=0)
        bests.append(history.best.held_out_bound)
    assert bests[1] > bests[0] - 0.5


@pytest.mark.parametrize(
    ("settings", "dims"),
    [
        ({"latent_dim": 8}, (8, 4)),
        ({"latent_dim": 8, "n_levels": 5}, (8, 4, 2, 1, 1)),
        ({"n_levels": 1}, (4,)),
        ({}, (4, 2)),
    ],
)
def test_each_level_has_half_of_the_one_below(settings: dict, dims: tuple[int, ...]) -> None:
    model = Hierarchical(**settings).build(Shape(9))
    assert model.dims == dims
    assert model.noise_dim == sum(dims)


def test_no_levels_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_levels=0 is not allowed; give at least 1"):
        variant_of("hierarchical", {"n_levels": 0})
