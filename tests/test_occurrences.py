"""Rates of alarms: Garwood's interval, as wide as bursts make it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binom, chi2, poisson

from vae_anomaly.decisions.occurrences import Occurrences
from vae_anomaly.errors import InputError


def spread(count: int, n_days: int) -> Occurrences:
    """As even as can be, so that the dispersion is 1."""
    counts = np.full(n_days, count // n_days)
    counts[: count % n_days] += 1
    return Occurrences(counts, np.full(n_days, 0.5))


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_interval_of_even_counts_is_garwood_s(count: int) -> None:
    found = spread(count, 8).interval(0.9)
    low, high = chi2.ppf(0.05, 2 * count) / 2 if count else 0.0, chi2.ppf(0.95, 2 * count + 2) / 2
    assert_allclose([found.low, found.value, found.high], [low / 4, count / 4, high / 4])
    if count:  # by its definition: at either end the count is as rare as it may be
        assert_allclose(poisson.sf(count - 1, low), 0.05)
    assert_allclose(poisson.cdf(count, high), 0.05)


def test_days_cut_otherwise_tell_the_same_rate() -> None:
    counts, days = np.array([0, 3, 1, 2]), np.array([0.5, 1.0, 0.25, 1.0])
    found = Occurrences(counts, days).interval()
    assert_allclose(found.value, 6 / 2.75)
    more = Occurrences(np.append(counts, 0), np.append(days, 0.0))  # a day that does not count
    assert more.interval() == found
    longer = Occurrences(counts, 7 * days).interval()
    assert_allclose([7 * longer.low, 7 * longer.high], [found.low, found.high])


def test_dispersion_is_the_variance_of_the_rate_over_poisson_s() -> None:
    """Of bursts of m it is m: 2,000 days, so that its standard error is some 5 %."""
    rng = np.random.default_rng(0)
    for burst in (1, 3, 8):
        found = Occurrences(burst * rng.poisson(1.0, 2000), np.ones(2000)).dispersion
        assert_allclose(found, burst, rtol=0.15)
    assert spread(7, 8).dispersion == 1
    assert Occurrences(np.array([9]), np.ones(1)).dispersion == 1


def test_interval_holds_where_alarms_come_in_bursts_and_poisson_s_does_not() -> None:
    """20 days, 4 alarms a day by fives; were the coverage 90 %, 1 set in 10,000 would fail."""
    rng = np.random.default_rng(1)
    held = plain = 0
    for _ in range(300):
        counts = 5 * rng.poisson(0.8, 20)
        found = Occurrences(counts, np.ones(20)).interval()
        alone = Occurrences(np.array([counts.sum()]), np.array([20.0])).interval()
        held += found.low <= 4 <= found.high
        plain += alone.low <= 4 <= alone.high
    assert held >= binom.ppf(1e-4, 300, 0.9)
    assert plain < 0.75 * 300


def test_draws_are_those_of_the_rate_in_the_same_time() -> None:
    found = Occurrences(np.array([0, 10, 0, 10]), np.ones(4))
    draws = found.draws(20_000, np.random.default_rng(0))
    assert_allclose(draws.mean(), 20 + found.dispersion / 2, rtol=0.02)
    assert_allclose(draws.var(), found.dispersion * draws.mean(), rtol=0.1)


def test_without_time_nothing_is_known_and_confidence_is_a_share() -> None:
    assert math.isnan(Occurrences(np.zeros(1, int), np.zeros(1)).interval().value)
    with pytest.raises(InputError, match="confidence=95"):
        spread(1, 1).interval(95)
