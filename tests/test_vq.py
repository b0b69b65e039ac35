"""Codes are the nearest ones, their book is that of k-means, and their priors are distributions."""

from __future__ import annotations

import itertools
import math

import naive
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import chisquare

from vae_anomaly.models.code_priors import AutoregressivePrior, CategoricalPrior
from vae_anomaly.models.codebook import Codebook, perplexity, straight_through, usage
from vae_anomaly.models.training import seeded


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def new(
    kind: type[CategoricalPrior] | type[AutoregressivePrior], *sizes: int
) -> CategoricalPrior | AutoregressivePrior:
    with seeded(0):
        return kind(*sizes)


def book(vectors: torch.Tensor, *, size: float = 1.0, decay: float = 0.99) -> Codebook:
    """A codebook with these vectors (K, e), of which each was used alike."""
    codebook = Codebook(*vectors.shape, decay=decay)
    codebook.vectors.copy_(vectors)
    codebook.size.fill_(size)
    codebook.total.copy_(size * vectors)
    return codebook


# ------------------------------------------------------------------------------------- codebook


@pytest.mark.parametrize(("n_codes", "code_dim"), [(2, 1), (5, 3), (16, 4), (33, 2)])
def test_nearest_code_is_that_of_a_search_through_all(n_codes: int, code_dim: int) -> None:
    codebook, z = book(random(n_codes, code_dim)), random(7, 40, code_dim, seed=1)
    expected = [
        naive.nearest(v, codebook.vectors.tolist()) for v in z.reshape(-1, code_dim).tolist()
    ]
    assert codebook.nearest(z).shape == (7, 40)
    assert codebook.nearest(z).reshape(-1).tolist() == expected


def test_of_codes_as_near_the_first_is_taken() -> None:
    twins = book(torch.tensor([[3.0], [1.0], [1.0], [-1.0]]))
    assert twins.nearest(torch.tensor([[1.0], [0.0], [2.0], [9.0]])).tolist() == [1, 1, 0, 0]


def test_codes_stand_for_themselves() -> None:
    codebook = book(random(64, 4))
    assert codebook.nearest(codebook.vectors).tolist() == list(range(64))


@pytest.mark.parametrize("n_codes", [3, 64])
def test_a_vector_has_one_code_wherever_it_stands(n_codes: int) -> None:
    codebook, z = book(random(n_codes, 3)), random(1024, 3, seed=1)
    order = torch.randperm(1024, generator=generator(2))
    assert torch.equal(codebook.nearest(z)[order], codebook.nearest(z[order]))


def test_moving_averages_equal_a_computation_by_hand() -> None:
    codebook = book(torch.tensor([[0.0], [10.0]]), size=4.0, decay=0.75)
    z = torch.tensor([[1.0], [3.0], [8.0]])
    codebook.learn(z, codebook.nearest(z))
    size = [0.75 * 4 + 0.25 * 2, 0.75 * 4 + 0.25 * 1]
    total = [0.75 * 0 + 0.25 * (1 + 3), 0.75 * 40 + 0.25 * 8]
    assert_allclose(codebook.size, size)
    assert_allclose(codebook.total[:, 0], total)
    smoothed = [(s + 1e-5) / (sum(size) + 2e-5) * sum(size) for s in size]
    assert_allclose(codebook.vectors[:, 0], np.divide(total, smoothed), rtol=1e-6)


def test_without_memory_a_step_is_one_of_k_means() -> None:
    codebook, z = book(random(6, 2), decay=0.0), random(500, 2, seed=1)
    for _ in range(30):
        expected = naive.k_means_step(z.tolist(), codebook.vectors.tolist())
        codebook.learn(z, codebook.nearest(z))
        assert_allclose(codebook.vectors, expected, atol=1e-4)
    before = codebook.vectors.clone()
    codebook.learn(z, codebook.nearest(z))
    assert_allclose(codebook.vectors, before, atol=1e-4)  # and it has come to rest


def test_gradient_goes_straight_through() -> None:
    z = random(5, 3).requires_grad_()
    quantized, weight = random(5, 3, seed=1), random(5, 3, seed=2)
    through = straight_through(z, quantized)
    assert torch.equal(through, quantized)
    (through * weight).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, weight)


def test_untrained_book_is_drawn_from_what_it_is_to_stand_for() -> None:
    codebook, z = Codebook(32, 2), random(100, 2, seed=1)
    codebook.revive(z, generator())
    rows = {tuple(row) for row in z.tolist()}
    drawn = {tuple(row) for row in codebook.vectors.tolist()}
    assert len(drawn) == 32  # none twice
    assert drawn <= rows
    assert codebook.n_revived == 0
    assert_allclose(codebook.size, 100 / 32)
    assert_allclose(codebook.total, codebook.size[:, None] * codebook.vectors)


def test_few_vectors_fill_a_large_book() -> None:
    codebook = Codebook(32, 2)
    codebook.revive(z := random(5, 2, seed=1), generator())
    assert {tuple(v) for v in codebook.vectors.tolist()} == {tuple(v) for v in z.tolist()}


def test_codes_far_from_everything_are_dead_and_revived() -> None:
    """Ten of sixteen codes start where nothing ever is: without revival none is ever used."""
    far = random(16, 2) + torch.where(torch.arange(16) < 10, 100.0, 0.0)[:, None]
    left, helped = book(far, size=32.0), book(far, size=32.0)
    for step in range(600):
        z = random(512, 2, seed=step)
        left.learn(z, left.nearest(z))
        helped.revive(z, generator(step))
        helped.learn(z, helped.nearest(z))
    z = random(2000, 2, seed=9999)
    used = [int((usage(b.nearest(z), 16) > 0).sum()) for b in (left, helped)]
    assert used == [6, 16]
    assert helped.n_revived >= 10
    assert (helped.vectors.norm(dim=-1) < 10).all()
    errors = [(z - b(b.nearest(z))).square().mean() for b in (left, helped)]
    assert errors[1] < 0.6 * errors[0]


def test_codes_in_use_are_left_alone() -> None:
    codebook, z = book(random(8, 2)), random(200, 2, seed=1)
    before = {name: tensor.clone() for name, tensor in codebook.state_dict().items()}
    codebook.revive(z, generator())
    assert all(torch.equal(before[k], v) for k, v in codebook.state_dict().items())


def test_perplexity_counts_codes_used_alike() -> None:
    for n in (1, 2, 7, 64):
        assert_allclose(perplexity(usage(torch.arange(n).repeat(3), n)), n)
    assert_allclose(perplexity(torch.tensor([1.0, 0.0, 0.0])), 1.0)
    share = [0.7, 0.2, 0.1]
    expected = math.exp(-sum(p * math.log(p) for p in share))
    assert_allclose(perplexity(torch.tensor(share)), expected, rtol=1e-6)


# --------------------------------------------------------------------------------- priors of codes


def copies(n: int, n_codes: int, n_positions: int) -> torch.Tensor:
    """Codes (n, m) of which the second position says again what the first said."""
    codes = torch.randint(n_codes, (n, n_positions), generator=generator())
    codes[:, 1] = codes[:, 0]
    return codes


def every(n_codes: int, n_positions: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(n_codes), repeat=n_positions)))


@pytest.mark.parametrize("kind", [CategoricalPrior, AutoregressivePrior])
@pytest.mark.parametrize("n_context", [0, 2])
@pytest.mark.parametrize("is_fitted", [False, True])
def test_probabilities_of_all_codes_sum_to_one(
    kind: type[CategoricalPrior] | type[AutoregressivePrior], n_context: int, is_fitted: bool
) -> None:
    prior = new(kind, 3, 4, n_context)
    if is_fitted:
        prior.fit(copies(300, 4, 3), random(300, n_context), generator())
    all_codes = every(4, 3)
    for context in random(5, 1, n_context, seed=1):
        log_p = prior.log_prob(all_codes, context.expand(64, -1))
        assert_allclose(log_p.exp().sum().detach(), 1.0, rtol=1e-5)


def test_categorical_prior_is_counted() -> None:
    prior, codes = CategoricalPrior(2, 3), torch.tensor([[0, 2], [0, 1], [1, 2], [0, 2]])
    prior.fit(codes, torch.zeros(4, 0), generator())
    share = [[4 / 7, 2 / 7, 1 / 7], [1 / 7, 2 / 7, 4 / 7]]  # each code had one row more
    assert_allclose(prior.log_share.exp(), share, rtol=1e-6)
    got = prior.log_prob(torch.tensor([[1, 0]]), torch.zeros(1, 0))
    assert_allclose(got, math.log(2 / 7 * 1 / 7), rtol=1e-6)


@pytest.mark.parametrize("kind", [CategoricalPrior, AutoregressivePrior])
def test_draws_are_as_frequent_as_the_prior_says(
    kind: type[CategoricalPrior] | type[AutoregressivePrior],
) -> None:
    """Of 27 kinds of codes, by chi-square; one in 1000 seeds would fail."""
    prior, n = new(kind, 3, 3), 20_000
    prior.fit(copies(300, 3, 3), torch.zeros(300, 0), generator())
    drawn = prior.draw(torch.zeros(n, 0), generator(1))
    found = torch.bincount(drawn @ torch.tensor([9, 3, 1]), minlength=27).numpy()
    expected = n * prior.log_prob(every(3, 3), torch.zeros(27, 0)).double().exp().numpy()
    cell = np.where(expected < 5, 27, np.arange(27))  # the rare ones in one
    found, expected = (np.bincount(cell, part) for part in (found, expected))
    found, expected = found[expected > 0], expected[expected > 0]
    assert chisquare(found, expected * n / expected.sum()).pvalue > 1e-3


def test_autoregressive_prior_learns_what_positions_say_of_one_another() -> None:
    codes, nothing = copies(2000, 4, 3), torch.zeros(2000, 0)
    chain, apart = new(AutoregressivePrior, 3, 4), CategoricalPrior(3, 4)
    for prior in (chain, apart):
        prior.fit(codes[:1500], nothing[:1500], generator())
    nats = [float(-p.log_prob(codes[1500:], nothing[1500:]).mean()) for p in (chain, apart)]
    assert_allclose(nats[1], 3 * math.log(4), atol=0.05)
    assert_allclose(nats[0], 2 * math.log(4), atol=0.1)  # the second of three is known
    drawn = chain.draw(torch.zeros(500, 0), generator(1))
    assert (drawn[:, 0] == drawn[:, 1]).double().mean() > 0.97


def test_autoregressive_prior_heeds_the_context() -> None:
    context = random(1500, 1)
    codes = (context > 0).long().expand(-1, 2)
    prior = new(AutoregressivePrior, 2, 2, 1)
    prior.fit(codes, context, generator())
    high, low = (prior.draw(torch.full((400, 1), c), generator(1)) for c in (1.5, -1.5))
    assert high.double().mean() > 0.97
    assert low.double().mean() < 0.03


def test_position_knows_nothing_of_those_after_it() -> None:
    prior = new(AutoregressivePrior, 4, 5)
    prior.fit(copies(300, 5, 4), torch.zeros(300, 0), generator())
    codes = torch.randint(5, (20, 4), generator=generator())
    before = prior(codes, torch.zeros(20, 0))
    for i in range(4):
        changed = codes.clone()
        changed[:, i] = (codes[:, i] + 1) % 5
        differs = (prior(changed, torch.zeros(20, 0)) != before).any(dim=-1).any(dim=0)
        assert differs.tolist() == [i < j for j in range(4)]


def test_autoregressive_prior_is_never_worse_on_held_out_rows_than_frequencies() -> None:
    """Codes drawn at random, and few rows: there is nothing to learn but by heart."""
    codes, nothing = torch.randint(8, (60, 4), generator=generator()), torch.zeros(60, 0)
    chain, apart = new(AutoregressivePrior, 4, 8), CategoricalPrior(4, 8)
    for prior in (chain, apart):
        prior.fit(codes, nothing, generator())
    fresh = torch.randint(8, (500, 4), generator=generator(1))
    nats = [float(-p.log_prob(fresh, torch.zeros(500, 0)).mean()) for p in (chain, apart)]
    assert nats[0] < nats[1] + 0.2


@pytest.mark.parametrize("n", [1, 2, 4, 10])
def test_few_rows_still_give_a_prior(n: int) -> None:
    prior = new(AutoregressivePrior, 2, 3)
    prior.fit(torch.zeros(n, 2, dtype=torch.int64), torch.zeros(n, 0), generator())
    assert_allclose(
        prior.log_prob(every(3, 2), torch.zeros(9, 0)).exp().sum().detach(), 1.0, rtol=1e-5
    )
    assert not any(parameter.requires_grad for parameter in prior.parameters())


def test_same_generator_same_prior() -> None:
    one, other = (new(AutoregressivePrior, 3, 4) for _ in range(2))
    for prior in (one, other):
        prior.fit(copies(300, 4, 3), torch.zeros(300, 0), generator(3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
