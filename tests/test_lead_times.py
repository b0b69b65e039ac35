"""Warnings are timed from failures back, as one would by hand."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vae_anomaly.decisions.episodes import runs, timeline
from vae_anomaly.decisions.lead_times import LeadTimes, lead_times
from vae_anomaly.errors import InputError

flags = st.lists(st.booleans(), min_size=12, max_size=12)
moments = st.lists(st.integers(1, 14), max_size=3, unique=True)


def foretold(over: str, *, horizon: float = 99, pause: float = 0, at: float = 9) -> LeadTimes:
    """One engine, a row an hour, which fails after the ninth."""
    rows = timeline(["e"] * len(over), np.arange(len(over)))
    alarms = runs([c == "x" for c in over], rows)
    return lead_times(
        alarms, rows, failed=["e"], failed_s=[at], horizon_s=horizon, max_pause_s=pause
    )


@settings(max_examples=100)
@given(flags, flags, moments, moments, st.integers(1, 15), st.integers(0, 3))
def test_leads_are_those_of_walking_back_by_hand(
    a: list[bool], b: list[bool], a_fails: list[int], b_fails: list[int], horizon: int, pause: int
) -> None:
    rows = timeline(["a"] * 12 + ["b"] * 12, [*range(12), *range(12)])
    alarms = runs(a + b, rows)
    failures = [("a", float(t)) for t in a_fails] + [("b", float(t)) for t in b_fails]
    found = lead_times(
        alarms, rows, failed=[f[0] for f in failures], failed_s=[f[1] for f in failures],
        horizon_s=horizon, max_pause_s=pause,
    )  # fmt: skip
    listed = list(zip(alarms.asset.tolist(), alarms.start_s, alarms.end_s, strict=True))
    leads, n_false = naive.leads(listed, failures, horizon_s=horizon, max_pause_s=pause)
    assert list(found.leads_s) == leads
    assert found.n_false == n_false
    assert found.n_warned == sum(lead > 0 for lead in leads)
    healthy = [
        (name, t) for name in "ab" for t in range(12)
        if not any(f == name and end - horizon <= t < end for f, end in failures)
    ]  # fmt: skip
    assert_allclose(found.healthy_days * 86_400, len(healthy))


@pytest.mark.parametrize(
    ("over", "more", "lead", "false"),
    [
        (".....xxxx", {}, 4, 0),
        ("..x..xxxx", {}, 4, 0),  # withdrawn, but not false: it was within the horizon
        ("..x..xxxx", {"pause": 2}, 7, 0),
        ("..x..xxxx", {"horizon": 6}, 4, 1),
        ("xxxxxxxxx", {"horizon": 6}, 0, 1),  # it stood when the machine had a life ahead
        (".....xx..", {}, 0, 0),  # over before the failure
        (".....xx..", {"pause": 2}, 4, 0),
        (".........", {}, 0, 0),
        (".....xxxx..x", {}, 4, 1),  # after the failure it is another life
    ],
)
def test_a_warning_lasts_until_the_failure(
    over: str, more: dict[str, float], lead: float, false: int
) -> None:
    found = foretold(over, **more)
    assert (found.leads_s, found.n_false) == ((lead,), false)


def test_median_lead_counts_failures_without_a_warning_as_0() -> None:
    rows = timeline(np.repeat(list("abc"), 9), np.tile(np.arange(9), 3))
    over = [c == "x" for c in ".....xxxx" + "........." + "...xxxxxx"]
    found = lead_times(runs(over, rows), rows, failed=list("abc"), failed_s=[9.0] * 3, horizon_s=20)
    assert found.leads_s == (4, 0, 6)
    assert (found.lead_s.value, found.lead_s.low, found.lead_s.high) == (4, 0, 20)
    assert found.warned_rate.value == 2 / 3
    assert found.in_words() == "2 of 3 failures foretold, 4 s before (median)"


def test_without_failures_every_alarm_is_false() -> None:
    rows = timeline(["a"] * 9, 3600 * np.arange(9))
    found = lead_times(runs([True] * 9, rows), rows, failed=[], failed_s=[], horizon_s=1)
    assert (found.n_failures, found.n_false) == (0, 1)
    assert not found.lead_s.known
    assert not found.warned_rate.known
    assert found.in_words().startswith("0 of 0 failures foretold, 2.7 (")


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(InputError, match="horizon_s=0"):
        foretold("x", horizon=0)
    with pytest.raises(InputError, match="max_pause_s=-1"):
        foretold("x", pause=-1)
    with pytest.raises(InputError, match="one finite time"):
        foretold("x", at=np.inf)
    rows = timeline(["a"], [0.0])
    with pytest.raises(InputError, match="the asset 'z' that failed; there are rows of a"):
        lead_times(runs([True], rows), rows, failed=["z"], failed_s=[1.0], horizon_s=1)
