"""Rows are shifted and scaled as told, and nothing that is missing or absurd gets through."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from vae_anomaly.errors import InputError
from vae_anomaly.models.standardize import (
    Batch,
    Standardizer,
    Windows,
    fit_standardizer,
    split,
    take,
    windowed,
)


def rows(n: int = 200, d: int = 4, seed: int = 0) -> torch.Tensor:
    """Rows of different sizes with a tenth of the entries missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, d)) * 10.0 ** np.arange(d) + 3
    values[rng.random((n, d)) < 0.1] = np.nan
    return torch.from_numpy(values)


def as_batch(values: np.ndarray) -> Batch:
    """Values of which NaN is missing."""
    x = torch.as_tensor(values, dtype=torch.float32)
    n = len(x)
    label = torch.zeros(n, dtype=torch.int64)
    return Batch(x.nan_to_num(0.0), ~x.isnan(), torch.arange(n).float()[:, None], label)


def test_moments_are_those_of_the_observed_entries() -> None:
    raw = rows().numpy()
    standardizer = fit_standardizer(torch.from_numpy(raw), n_context=1)
    assert_allclose(standardizer.center, np.nanmean(raw, axis=0))
    assert_allclose(standardizer.scale, np.nanstd(raw, axis=0))
    z = (raw - np.nanmean(raw, axis=0)) / np.nanstd(raw, axis=0)
    batch = standardizer(torch.from_numpy(raw))
    assert_allclose(batch.x, np.nan_to_num(z[:, :3]), rtol=1e-6)
    assert_allclose(batch.context, np.nan_to_num(z[:, 3:]), rtol=1e-6)
    assert_array_equal(batch.observed, ~np.isnan(raw[:, :3]))
    assert batch.x.dtype == batch.context.dtype == torch.float32
    assert batch.label.tolist() == [-1] * 200


@given(scale=st.floats(1e-6, 1e6), offset=st.floats(-1e6, 1e6), sign=st.sampled_from([1.0, -1.0]))
def test_change_of_units_leaves_the_batch_unchanged(
    scale: float, offset: float, sign: float
) -> None:
    raw = rows()
    changed = raw * scale * sign + offset * scale
    plain, other = fit_standardizer(raw, 0)(raw), fit_standardizer(changed, 0)(changed)
    assert_allclose(other.x * sign, plain.x, atol=1e-5)
    assert_array_equal(other.observed, plain.observed)


def test_counter_of_ten_million_keeps_its_noise() -> None:
    noise = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    batch = fit_standardizer(noise * 1e-3 + 1e7, 0)(noise * 1e-3 + 1e7)
    assert_allclose(batch.x / batch.x.max(), noise, atol=1e-5)


def test_columns_that_never_vary_stay_out() -> None:
    raw = torch.tensor(
        [
            [1.0, 5.1, torch.nan, 0.1 + 0.2, 1.0, 7.0],
            [2.0, 5.1, torch.nan, 0.3, 1.0, 7.0],
            [3.0, torch.nan, torch.nan, 0.3, 1.0, torch.nan],
        ],
        dtype=torch.float64,
    )
    standardizer = fit_standardizer(raw, n_context=1)
    assert standardizer.n_features == 5
    assert standardizer.n_context == 1
    assert standardizer.active.tolist() == [True, False, False, False, False]
    assert_array_equal(standardizer.constant_value[[1, 4]], [5.1, 1.0])
    assert standardizer.constant_value[[0, 2]].isnan().all()
    assert standardizer(raw).x.shape == (3, 1)


def test_condition_that_never_varies_has_no_effect_when_it_does() -> None:
    standardizer = fit_standardizer(torch.tensor([[1.0, 7.0], [2.0, 7.0]]).double(), n_context=1)
    later = torch.tensor([[1.0, 8.0], [1.0, torch.nan], [1.0, torch.inf]]).double()
    assert standardizer(later).context.tolist() == [[0.0]] * 3


def test_absurd_readings_stay_finite() -> None:
    standardizer = fit_standardizer(rows(), n_context=0)
    batch = standardizer(torch.tensor([[torch.inf, -torch.inf, 1e300, -1e300]]).double())
    assert batch.x.tolist() == [[1e6, -1e6, 1e6, -1e6]]
    assert batch.observed.all()


def test_absurd_readings_do_not_decide_the_scale() -> None:
    raw = rows()
    raw[7, 1] = torch.inf
    assert fit_standardizer(raw, 0).scale.isfinite().all()


def test_restored_undoes_standardising() -> None:
    raw = rows()
    raw[:, 2] = 4.5
    standardizer = fit_standardizer(raw, n_context=1)
    back = standardizer.restored(standardizer(raw).x)
    observed = ~raw[:, :3].isnan()
    assert back.shape == (200, 3)
    assert_allclose(back[observed], raw[:, :3][observed], rtol=1e-5)
    assert_array_equal(back[:, 2], 4.5)


def test_ensemble_axis_goes_through() -> None:
    raw = rows()
    standardizer = fit_standardizer(raw, n_context=1)
    single, stacked = standardizer(raw), standardizer(raw.reshape(2, 100, 4))
    for one, two in zip(single, stacked, strict=True):
        assert torch.equal(one.reshape(two.shape), two)


def test_state_travels_with_the_weights() -> None:
    fitted = fit_standardizer(rows(), n_context=1)
    nothing = torch.zeros(4, dtype=torch.float64)
    other = Standardizer(
        nothing,
        nothing.clone(),
        active=torch.zeros(3, dtype=torch.bool),
        constant_value=torch.zeros(3, dtype=torch.float64),
    )
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other(rows()).x, fitted(rows()).x)


@pytest.mark.parametrize(
    ("raw", "n_context"),
    [(rows().float(), 0), (rows()[0], 0), (rows(), 4), (rows(), -1)],
    ids=["float32", "one axis", "no sensor", "negative"],
)
def test_other_rows_are_refused(raw: torch.Tensor, n_context: int) -> None:
    with pytest.raises(InputError, match="float64 matrix"):
        fit_standardizer(raw, n_context)


@pytest.mark.parametrize("width", [1, 2, 5, 9])
def test_windows_equal_a_loop(width: int) -> None:
    values = rows(12, 2).numpy()
    run = [0, 1, 2, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    index = torch.tensor([11, 0, 3, 5, 5])
    got = windowed(as_batch(values), torch.tensor(run), index, width)
    expected = as_batch(np.array(naive.windows(values.tolist(), run, width)))
    assert torch.equal(got.x, expected.x[index])
    assert torch.equal(got.observed, expected.observed[index])
    assert got.context.flatten().tolist() == index.tolist()


def test_windows_are_gathered_spread_and_cut() -> None:
    batch = as_batch(rows(50, 3).numpy())
    whole = Windows.whole(batch)
    assert all(torch.equal(*pair) for pair in zip(whole.spread(50), batch, strict=True))
    spread = Windows(batch, torch.arange(50), torch.arange(10, 50), 2).spread(3)
    assert spread.context.flatten().tolist() == [10, 29, 49]
    assert spread.x.shape == (3, 6)
    pieces = list(split(batch, [20, 30]))
    assert torch.equal(pieces[1].x, take(batch, torch.arange(20, 50)).x)
