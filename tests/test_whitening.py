"""Whitened rows, rows with gaps and the Gaussian whose columns vary together, by brute force."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from vae_anomaly.models.covariance import FOLDS, SHRINKAGES, shrunk_covariance
from vae_anomaly.models.gaps import fill_gaps
from vae_anomaly.models.likelihoods import NormalLikelihood
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.whitening import LEAST_VARIANCE, WIDEST, WhitenedLikelihood, Whitening

#: Sensors of these tests.
D = 5

powers = pytest.mark.parametrize("power", [0.25, 0.5, 1.0])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n: int, *, d: int = D, seed: int = 0, gaps: float = 0.0) -> Batch:
    """Rows that vary together, some axes a hundred times as much as others."""
    rng = np.random.default_rng(77)
    mix = rng.normal(size=(d, d)) * 10.0 ** -np.linspace(0, 2, d)[:, None]
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)) @ mix + 1.0).float()
    observed = torch.rand(n, d, generator=generator(seed)) >= gaps
    return Batch(x * observed, observed, torch.zeros(n, 0), torch.zeros(n, dtype=torch.int64))


def with_nan(batch: Batch) -> np.ndarray:
    return torch.where(batch.observed, batch.x, torch.nan).double().numpy()


def fitted(power: float = 0.25, *, d: int = D, gaps: float = 0.0) -> Whitening:
    whitening = Whitening(d, power=power)
    whitening.fit(rows(2000, d=d, gaps=gaps))
    return whitening


def likelihood(power: float, n: int, *, members: int = 0, samples: int = 0) -> WhitenedLikelihood:
    shape = (*(size for size in (samples, members) if size), n, D)
    u = torch.randn(shape, generator=generator(3))
    sigma = 0.2 + torch.rand((members, D) if members else (D,), generator=generator(4))
    return WhitenedLikelihood(fitted(power), u, sigma)


def moments(p: WhitenedLikelihood) -> tuple[np.ndarray, np.ndarray]:
    """Mean (*, n, D) and covariance (D, D) of x, from those of the whitened columns."""
    back = np.linalg.inv(p.whitening.weight.double().numpy())
    center = p.whitening.center.double().numpy()
    mean = p.u.double().numpy() @ back.T + center
    return mean, back @ np.diag(p.sigma.double().numpy() ** 2) @ back.T


# -------------------------------------------------------------------------------------- covariance


@pytest.mark.parametrize("n", [8, 30, 300])
def test_shrinkage_is_the_one_under_which_held_out_rows_are_likeliest(n: int) -> None:
    x = rows(n, d=4).x.double()
    x = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    share = naive.best_shrinkage(x.numpy(), SHRINKAGES, FOLDS)
    expected = (1 - share) * (x.T @ x / n) + share * torch.eye(4)
    assert_allclose(shrunk_covariance(x, x < torch.inf), expected, atol=1e-12)


def test_covariance_of_pairs_that_do_not_fit_together_is_made_to() -> None:
    """Three columns, never observed all at once, that all but follow and oppose one another."""
    x = torch.randn(300, 1, generator=generator()).double() * torch.ones(300, 3)
    x[200:, 2] *= -1
    observed = torch.ones(300, 3, dtype=torch.bool)
    for third in range(3):
        observed[100 * third : 100 * (third + 1), third] = False
    found = shrunk_covariance(x, observed)
    assert torch.linalg.eigvalsh(found)[0] > 0


# ------------------------------------------------------------------------------------- there, back


@powers
def test_axes_vary_as_the_power_says_and_rows_come_back(power: float) -> None:
    whitening, x = fitted(power), rows(2000).x
    variance = np.linalg.eigvalsh(np.cov(x.double().numpy().T, bias=True))
    u = whitening(x).double().numpy()
    covariance = np.cov(u.T, bias=True)
    floored = np.maximum(variance, LEAST_VARIANCE * variance.mean())
    scale = variance.mean()  # u is in units of it
    expected = variance / scale * (floored / scale) ** -power
    assert_allclose(np.diag(covariance), expected, rtol=0.02)
    assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=0.01 * expected.max())
    assert_allclose(whitening.back(whitening(x)), x, atol=1e-5)


def test_what_is_fitted_is_the_gaussian_of_the_rows() -> None:
    whitening, x = fitted(), rows(2000).x.double().numpy()
    assert_allclose(whitening.center, x.mean(axis=0), atol=1e-6)
    covariance = np.linalg.inv(whitening.precision.numpy())
    assert_allclose(covariance, np.cov(x.T, bias=True), atol=1e-3 * covariance.max())
    log_det = np.linalg.slogdet(whitening.weight.double().numpy())[1]
    assert_allclose(whitening.log_det, log_det, rtol=1e-5)


def test_units_of_all_columns_together_do_not_matter() -> None:
    """A range of 0 to 1, say, in place of a standard deviation of 1."""
    some, narrow = rows(2000), rows(2000)
    narrow = narrow._replace(x=0.1 * narrow.x + 0.5)
    plain, other = Whitening(D, power=0.5), Whitening(D, power=0.5)
    plain.fit(some)
    other.fit(narrow)
    assert_allclose(other(narrow.x), plain(some.x), atol=2e-3)


def test_fitting_twice_gives_the_same_bits_and_gaps_move_it_little() -> None:
    one, two, gappy = fitted(), fitted(), fitted(gaps=0.1)
    for mine, other in zip(one.buffers(), two.buffers(), strict=True):
        assert torch.equal(mine, other)
    assert_allclose(gappy.center, one.center, atol=0.1)


def test_columns_that_never_vary_or_are_never_there_leave_no_nan() -> None:
    some = rows(50)
    some.x[:, 1], some.observed[:, 3] = 4.0, False
    whitening = Whitening(D, power=1.0)
    whitening.fit(some)
    assert all(buffer.isfinite().all() for buffer in whitening.buffers())
    assert_allclose(whitening.back(whitening(some.x)), some.x, atol=1e-5)


@pytest.mark.parametrize(("width", "power"), [(D, 0.0), (WIDEST + 1, 0.25)])
def test_rows_are_left_as_they_are_at_power_0_and_where_they_are_too_wide(
    width: int, power: float
) -> None:
    whitening, some = Whitening(width, power=power, missing=0.5), rows(20, d=width, gaps=0.2)
    whitening.fit(some)
    assert whitening(some.x) is some.x
    assert whitening.back(some.x) is some.x
    filled = whitening.filled(some)
    assert torch.equal(filled, torch.where(some.observed, some.x, 0.5))
    assert isinstance(whitening.likelihood(some.x, torch.ones(width)), NormalLikelihood)
    assert sum(buffer.numel() for buffer in whitening.buffers()) <= 1


# ------------------------------------------------------------------------------------------- gaps


@pytest.mark.parametrize("gaps", [0.1, 0.5, 0.9])
def test_gaps_are_filled_with_their_conditional_mean(gaps: float) -> None:
    whitening, some = fitted(), rows(60, seed=1, gaps=gaps)
    covariance = np.linalg.inv(whitening.precision.numpy())
    center = whitening.center.double().numpy()
    expected = [naive.conditional_mean(row, center, covariance) for row in with_nan(some)]
    assert_allclose(whitening.filled(some), expected, atol=1e-4)
    assert torch.equal(whitening.filled(some)[some.observed], some.x[some.observed])


@pytest.mark.parametrize("d", [1, 2, 7, 17, 40])
def test_log_determinant_is_that_of_what_is_missing_given_the_rest(d: int) -> None:
    factor = torch.randn(d, 2 * d, generator=generator()).double()
    precision = factor @ factor.T / d + torch.eye(d)
    observed = torch.rand(30, d, generator=generator(1)) < 0.4
    observed[0], observed[1] = True, False
    r = torch.randn(3, 30, d, generator=generator(2)).double()
    filled = fill_gaps(r, observed, precision)
    for row in range(30):
        gap = ~observed[row]
        own = precision[gap][:, gap]
        expected = torch.logdet(own) if 0 < gap.sum() < d else 0.0
        assert_allclose(filled.log_det[row], expected, atol=1e-9)
        if 0 < gap.sum() < d:
            pull = r[:, row, observed[row]] @ precision[observed[row]][:, gap]
            assert_allclose(filled.r[:, row, gap], -pull @ own.inverse(), atol=1e-9)


def test_distance_over_gaps_has_the_gradient_that_it_has_when_they_move_along() -> None:
    """By differences they are filled anew each time; by rule their place is taken as given."""
    factor = torch.randn(6, 12, generator=generator()).double()
    observed = torch.rand(4, 6, generator=generator(1)) < 0.5
    r = torch.randn(2, 4, 6, generator=generator(2)).double().requires_grad_()

    def both(r: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        filled = fill_gaps(r, observed, factor @ factor.T)
        return (filled.r @ factor).square().sum(dim=-1), filled.log_det

    torch.autograd.gradcheck(both, (r, factor.requires_grad_()))


@pytest.mark.parametrize("d", [6, 33])
def test_filled_rows_are_the_same_bits_wherever_they_stand(d: int) -> None:
    whitening, some = fitted(d=d), rows(1024, d=d, seed=1, gaps=0.3)
    order = torch.randperm(1024, generator=generator())
    moved = Batch(*(part[order] for part in some))
    assert torch.equal(whitening.filled(some)[order], whitening.filled(moved))
    few = Batch(*(part[[5] * 1024] for part in some))
    assert torch.equal(whitening.filled(few)[0], whitening.filled(some)[5])


# -------------------------------------------------------------------------------------- likelihood


@powers
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_log_density_is_that_of_the_observed_entries(power: float, gaps: float) -> None:
    p, some = likelihood(power, 40), rows(40, seed=1, gaps=gaps)
    some.observed[7] = gaps == 0  # nothing of it, where there are gaps
    mean, covariance = moments(p)
    pairs = zip(with_nan(some), mean, strict=True)
    expected = [naive.gaussian(row, m, covariance) for row, m in pairs]
    assert_allclose(p.log_density(some.x, some.observed), expected, rtol=1e-4, atol=1e-3)
    if not gaps:
        assert_allclose(p.log_prob(some.x).sum(dim=-1), expected, rtol=1e-4, atol=1e-3)


@powers
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_contributions_are_those_of_the_rotated_residual_in_the_sensors(
    power: float, gaps: float
) -> None:
    """r * (A' S A r), A the map and S the precisions of the whitened columns."""
    p, some = likelihood(power, 40), rows(40, seed=1, gaps=gaps)
    mean, covariance = moments(p)
    got = p.observed_deviance(some.x, some.observed)
    A, S = p.whitening.weight.double().numpy(), np.diag(p.sigma.double().numpy() ** -2)
    for i, row in enumerate(with_nan(some)):
        seen = ~np.isnan(row)
        r = (row - mean[i])[seen]
        precision = A.T @ S @ A if seen.all() else np.linalg.inv(covariance[np.ix_(seen, seen)])
        assert_allclose(got[i][seen], r * (precision @ r), rtol=1e-3, atol=1e-3)
        assert (got[i][~seen] == 0).all()
    if not gaps:
        away = (p.whitening(some.x) - p.u) / p.sigma
        assert_allclose(got.sum(dim=-1), away.square().sum(dim=-1), rtol=1e-3)
        assert torch.equal(got, p.deviance(some.x))


def test_samples_have_its_mean_and_covariance() -> None:
    n = 40_000
    p = likelihood(0.5, 1)
    many = WhitenedLikelihood(p.whitening, p.u.expand(n, D), p.sigma)
    drawn = many.draw(generator()).double().numpy()
    mean, covariance = moments(p)
    assert_allclose(p.mean, mean, atol=1e-5)
    assert_allclose(p.stddev[0] ** 2, np.diag(covariance), rtol=1e-4)
    error = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / n)
    assert (np.abs(drawn.mean(axis=0) - mean[0]) < 4 * np.sqrt(np.diag(covariance) / n)).all()
    assert (np.abs(np.cov(drawn.T) - covariance) < 4 * error).all()


@pytest.mark.parametrize("samples", [0, 4])
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_members_are_each_their_own_likelihood(samples: int, gaps: float) -> None:
    p, some = likelihood(0.25, 30, members=3, samples=samples), rows(30, seed=1, gaps=gaps)
    x, observed = (part.expand(3, 30, D) for part in some[:2])
    density, share = p.log_density(x, observed), p.observed_deviance(x, observed)
    for j in range(3):
        own = WhitenedLikelihood(p.whitening, p.u[..., j, :, :], p.sigma[j])
        assert_allclose(density[..., j, :], own.log_density(*some[:2]), rtol=1e-4, atol=1e-4)
        assert_allclose(share[..., j, :, :], own.observed_deviance(*some[:2]), rtol=1e-3, atol=1e-3)
        assert_allclose(p.stddev[..., j, :, :], own.stddev, rtol=1e-5)
        assert_allclose(p.log_prob(x)[..., j, :, :], own.log_prob(some.x), rtol=1e-4, atol=1e-3)
    assert p.draw(generator()).shape == p.mean.shape == p.u.shape
