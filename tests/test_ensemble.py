"""The ensemble is the mean, or the mixture, of its members, on the densities that these say."""

from __future__ import annotations

import json
import math

import naive
import numpy as np
import pytest
import torch
from linear_plant import QUICK, normal_rows, series, with_gaps
from numpy.testing import assert_allclose
from test_vae import batch_of, random_rows
from torch import Tensor, nn

from vae_anomaly.errors import ConfigError
from vae_anomaly.models.ensemble import (
    SMALLEST_NOISE,
    EnsembleVAE,
    MemberDecoder,
    MemberEncoder,
    input_noise,
)
from vae_anomaly.models.layers import MemberMLP
from vae_anomaly.models.likelihoods import SMALLEST_SIGMA
from vae_anomaly.models.networks import Backbone, Shape
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import VAE, importance_bound
from vae_anomaly.models.variants import Ensemble, Gaussian
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scores import SCORES
from vae_anomaly.scoring.specification import build_scorer, scorer_spec

both = pytest.mark.parametrize("gaps", [0.0, 0.3])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int, d: int, *, n_context: int = 0, gaps: float = 0.0, seed: int = 0) -> Batch:
    """Rows that vary together; nothing of the last is observed where there are gaps."""
    mix = torch.randn(d, d, generator=generator(9)) / d**0.5
    x = random_rows(n, d, seed=seed) @ mix
    hidden = torch.rand(n, d, generator=generator(2)) < gaps
    x[hidden] = torch.nan
    if gaps:
        x[-1] = torch.nan
    return batch_of(x, n_context)


def built(variant: Ensemble, d: int, n_context: int = 0) -> EnsembleVAE:
    """A member whose whitening is fitted, and whose weights are drawn at random."""
    with seeded(0):
        module = variant.build(Shape(d, n_context))
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.4)
    variant.prepare(module, batch(500, d, n_context=n_context, seed=7))
    return module.eval()


def alone(module: EnsembleVAE, j: int, variant: Ensemble, like: Batch) -> EnsembleVAE:
    """The j-th member as an ensemble of one."""
    shape = Shape(like.x.shape[-1], like.context.shape[-1])
    twin = variant.build(shape).eval()
    state = module.state_dict()
    for name, part in twin.state_dict().items():
        mine = state[name]
        own = name.startswith(("members.encoder", "members.decoder"))
        part.copy_(mine[j : j + 1] if own else mine)
    return twin


def decoder(module: EnsembleVAE) -> MemberDecoder:
    assert isinstance(module.members.decoder, MemberDecoder)
    return module.members.decoder


# --------------------------------------------------------------------- against the Gaussian member


@torch.no_grad()
def twins(d: int, n_context: int) -> tuple[Gaussian, VAE, EnsembleVAE]:
    """A Gaussian VAE, and an ensemble of one with its weights and its noise."""
    gaussian = Gaussian(hidden=(8, 6), latent_dim=2)
    with seeded(0):
        vae = gaussian.build(Shape(d, n_context)).eval()
    ensemble = plain().build(Shape(d, n_context)).eval()
    encoder = ensemble.members.encoder
    assert isinstance(encoder, MemberEncoder)
    copy(vae.encoder.net, encoder.net)
    copy(vae.decoder.net, decoder(ensemble).net)
    vae.decoder.log_sigma.copy_(torch.linspace(-1, 0.5, d))
    variance = vae.decoder.sigma.square() - SMALLEST_NOISE**2
    decoder(ensemble).log_sigma.copy_(variance.log() / 2)
    assert SMALLEST_SIGMA < SMALLEST_NOISE
    return gaussian, vae, ensemble


def plain() -> Ensemble:
    return Ensemble(hidden=(8, 6), latent_dim=2, n_members=1, whitening=0.0, input_noise=())


def copy(mine: nn.Module, others: MemberMLP) -> None:
    layers = [layer for layer in mine.modules() if isinstance(layer, nn.Linear)]
    members = [layer for layer in others.layers if hasattr(layer, "weight")]
    for layer, member in zip(layers, members, strict=True):
        member.weight.copy_(layer.weight[None])
        member.bias.copy_(layer.bias[None])


@both
@pytest.mark.parametrize("n_samples", [1, 3])
@pytest.mark.parametrize("training", [False, True])
def test_one_member_of_rows_as_they_are_is_the_gaussian_one(
    gaps: float, n_samples: int, training: bool
) -> None:
    gaussian, vae, ensemble = twins(5, 2)
    free_bits = 0.1 if n_samples == 1 else 0.0
    settings = {"beta": 0.7, "free_bits": free_bits, "warmup": 0.5, "n_samples": n_samples}
    some = batch(40, 5, n_context=2, gaps=gaps)
    bounds = []
    for variant, module in ((gaussian, vae), (plain(), ensemble)):
        told = type(variant)(**{**vars(variant), **settings})
        module.train(training)
        bounds.append(told.bound(module, some, 0.3, generator()).detach())
    assert_allclose(bounds[0], bounds[1], rtol=1e-4, atol=1e-4)


@both
@torch.no_grad()
def test_its_latents_and_scores_are_those_of_the_gaussian_one(gaps: float) -> None:
    _, vae, ensemble = twins(5, 2)
    some = batch(40, 5, n_context=2, gaps=gaps)
    assert_allclose(ensemble.embed(some), vae.embed(some), atol=1e-5)
    assert_allclose(ensemble.spread(some), vae.spread(some), atol=1e-5)
    for name in ("reconstruction", "importance"):
        score = SCORES[name]
        pairs = [score.score(m, some, score.fit(m, some, some)) for m in (vae, ensemble)]
        for mine, other in zip(*pairs, strict=True):
            assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------- against densities


def of_member(module: EnsembleVAE, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of x under a member without hidden layers: factor analysis, whitened."""
    layer = decoder(module).net.layers[0]
    W, b = (part[j].double().detach().numpy() for part in (layer.weight, layer.bias))
    sigma = decoder(module).sigma[j].double().detach().numpy()
    back = np.linalg.inv(module.whitening.weight.double().numpy())
    center = module.whitening.center.double().numpy()
    return back @ b + center, back @ (W @ W.T + np.diag(sigma**2)) @ back.T


@both
@torch.no_grad()
@pytest.mark.parametrize("power", [0.25, 1.0])
def test_without_hidden_layers_it_is_a_mixture_of_factor_analyses(
    gaps: float, power: float
) -> None:
    module = built(Ensemble(hidden=(), latent_dim=1, whitening=power), 4)
    encoder = module.members.encoder.net.layers[0]
    encoder.weight.mul_(0.2)  # a wide proposal: no row's latent is far outside
    encoder.bias.copy_(torch.tensor([0.0, 0.2]))
    some = batch(15, 4, gaps=gaps)
    got = importance_bound(module, some, n_samples=40_000, generator=generator())
    x = torch.where(some.observed, some.x, torch.nan).double().numpy()
    parts = [of_member(module, j) for j in range(2)]
    densities = [[naive.gaussian(row, *part) for part in parts] for row in x]
    assert_allclose(got, np.logaddexp.reduce(densities, axis=1) - math.log(2), atol=0.1)


@torch.no_grad()
def test_density_integrates_to_one() -> None:
    """Over the latent of one member by a grid, then over both sensors."""
    module = built(Ensemble(hidden=(6,), latent_dim=1, n_members=1), 2)
    side = torch.linspace(-9, 9, 121)
    x = torch.cartesian_prod(side, side)
    grid = torch.linspace(-6, 6, 121)
    density = torch.zeros(len(x))
    for z in grid:
        p = module.likelihood(z.expand(len(x), 1), torch.zeros(len(x), 0))
        log_p = p.log_density(x, torch.ones_like(x, dtype=torch.bool))
        density += (log_p - z**2 / 2).exp() / math.sqrt(2 * math.pi) * 12 / 120
    assert_allclose(density.sum() * (18 / 120) ** 2, 1.0, atol=0.01)


@both
@torch.no_grad()
def test_bounds_stay_below_the_integrated_density(gaps: float) -> None:
    variant = Ensemble(hidden=(6,), latent_dim=1, n_members=1)
    module, some = built(variant, 4), batch(8, 4, gaps=gaps)
    z = torch.linspace(-10, 10, 2001)[:, None, None].expand(-1, 8, 1)
    log_p = module.likelihood(z, some.context).log_density(some.x, some.observed)
    log_prior = -0.5 * (z[..., 0].square() + math.log(2 * math.pi))
    log_density = (log_p + log_prior).logsumexp(dim=0) + math.log(20 / 2000)
    many = Batch(*(part.expand(4000, *part.shape) for part in some))
    single = variant.bound(module, many, 1.0, generator()).mean(dim=0)
    assert (single < log_density + 0.02).all()
    weighted = importance_bound(module, some, n_samples=100_000, generator=generator())
    assert_allclose(weighted, log_density, atol=0.1)


# ----------------------------------------------------------------------------------------- members


@both
@torch.no_grad()
def test_bound_is_the_mean_of_those_of_the_members(gaps: float) -> None:
    some = batch(30, 5, n_context=1, gaps=gaps)
    variant = Ensemble(hidden=(7,), latent_dim=2, n_members=3, prior="conditional")
    module = built(variant, 5, n_context=1)
    one = Ensemble(hidden=(7,), latent_dim=2, n_members=1, prior="conditional")
    noise = torch.randn(30, 6, generator=generator())
    log_likelihood, divergence = module.terms(some, noise)
    weights = module.log_weights(some, noise[None])
    parts = [alone(module, j, one, some) for j in range(3)]
    own = [part.terms(some, noise[:, 2 * j : 2 * j + 2]) for j, part in enumerate(parts)]
    assert_allclose(log_likelihood, sum(log_p for log_p, _ in own) / 3, rtol=1e-4, atol=1e-4)
    assert_allclose(3 * divergence, torch.cat([kl for _, kl in own], dim=-1), rtol=1e-4, atol=1e-5)
    each = [p.log_weights(some, noise[None, :, 2 * j : 2 * j + 2]) for j, p in enumerate(parts)]
    mixture = torch.stack(each).logsumexp(dim=0) - math.log(3)
    assert_allclose(weights, mixture, rtol=1e-4, atol=1e-4)
    bound = variant.bound(module, some, 1.0, generator())
    drawn = torch.randn(3, 30, 2, generator=generator())  # as the bound draws it
    again = module.terms(some, module.flat(drawn))
    assert_allclose(bound, again[0] - again[1].sum(dim=-1), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_expected_is_the_mean_of_what_the_members_expect_and_the_noise_of_their_variances() -> None:
    some, variant = batch(30, 5), Ensemble(hidden=(7,), latent_dim=2, n_members=3)
    one, module = Ensemble(hidden=(7,), latent_dim=2, n_members=1), built(variant, 5)
    p = module.likelihood(module.embed(some), some.context)
    own = [
        part.likelihood(part.embed(some), some.context)
        for part in (alone(module, j, one, some) for j in range(3))
    ]
    assert_allclose(p.mean, sum(part.mean for part in own) / 3, atol=1e-5)
    assert_allclose(p.stddev**2, sum(part.stddev**2 for part in own) / 3, rtol=1e-4)


def test_latents_of_the_members_stand_side_by_side() -> None:
    module, z = built(Ensemble(latent_dim=3), 4), random_rows(2, 5, 6)
    apart = module.apart(z)
    assert apart.shape == (2, 2, 5, 3)
    assert torch.equal(apart[:, 1], z[..., 3:])
    assert torch.equal(module.flat(apart), z)


@torch.no_grad()
def test_members_agree_on_what_is_drawn_and_each_draws_its_share() -> None:
    """Decoders that each know one row: what is drawn is that row, to both encoders."""
    module = built(Ensemble(hidden=(), latent_dim=1, whitening=0.0), 3)
    layer = decoder(module).net.layers[0]
    layer.weight.zero_()
    layer.bias.copy_(torch.tensor([[1.0, 1.0, 1.0], [-2.0, -2.0, -2.0]]))
    z = module.draw(torch.zeros(4000, 0), generator())
    known = module.embed(batch_of(torch.tensor([[1.0] * 3, [-2.0] * 3])))
    of_first, of_second = ((z - row).abs().amax(dim=-1) < 1e-5 for row in known)
    assert (of_first ^ of_second).all()
    assert abs(int(of_first.sum()) - 2000) < 4 * 32  # binomial, four standard deviations


# ----------------------------------------------------------------------------------------- noise


def test_each_row_draws_its_level_of_noise_evenly_in_the_logarithm() -> None:
    noise = input_noise((4000, 500), (0.03, 0.5), generator())
    levels = noise.std(dim=-1).log().sort().values
    expected = torch.linspace(math.log(0.03), math.log(0.5), 4000)
    assert_allclose(levels, expected, atol=0.15)
    assert_allclose(noise.mean(), 0.0, atol=1e-3)


def test_encoders_see_noise_in_training_alone_and_targets_have_none() -> None:
    some = batch(200, 5)
    loud, silent = Ensemble(input_noise=(2.0, 2.0)), Ensemble(input_noise=())
    module = built(loud, 5)

    def bound(variant: Ensemble) -> Tensor:
        return variant.bound(module, some, 1.0, generator()).detach()

    assert torch.equal(bound(loud), bound(silent))
    module.train()
    assert bound(loud).mean() < bound(silent).mean() - 0.1
    targets = module.stacked(some).x
    assert torch.equal(targets, some.x.expand(2, 200, 5))


# ------------------------------------------------------------------------------------ as it is used


def test_whitening_is_fitted_before_training_and_travels_with_the_weights() -> None:
    rows = normal_rows(400, 0)
    training = QUICK.model_copy(update={"min_steps": 20, "max_steps": 20})
    scorer = fit_scorer(
        series(rows), series(rows[:100]), n_context=0, variant=Ensemble(), training=training, seed=0
    ).scorer
    assert isinstance(scorer.module, EnsembleVAE)
    u = scorer.module.whitening(scorer.standardizer(torch.from_numpy(rows)).x)
    correlation = np.corrcoef(u.numpy().T)
    assert np.abs(correlation - np.eye(6)).max() < 0.01
    twin = build_scorer(json.loads(json.dumps(scorer_spec(scorer))))
    twin.load_state_dict(scorer.state_dict())
    some = series(with_gaps(normal_rows(50, 1)))
    for mine, other in zip(scorer(*some[:2]), twin(*some[:2]), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_members": 0}, "n_members=0 is not allowed; give at least 1"),
        ({"whitening": 1.5}, "whitening=1.5 is not allowed; give a power from 0 to 1"),
        ({"input_noise": (0.5, 0.1)}, "input_noise"),
        ({"input_noise": (0.1,)}, "input_noise"),
        ({"backbone": "temporal"}, "backbone='temporal' is not allowed; give 'mlp'"),
        ({"backbone": "image"}, "backbone='image' is not allowed; give 'mlp'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, int | float | tuple[float, ...] | Backbone], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Ensemble(**settings)  # type: ignore[arg-type]
