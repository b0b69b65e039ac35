"""Windows that lie over one series in memory are windows like any others."""

from __future__ import annotations

import torch

from vae_anomaly.models.overlapping import each_entry, overlapping, rows_beneath


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_windows_of_a_series_are_a_view_that_knows_its_rows() -> None:
    rows = noise(50, 3)
    windows = overlapping(rows, 7)
    assert windows.data_ptr() == rows.data_ptr()
    loop = torch.stack([rows[i : i + 7].flatten() for i in range(44)])
    assert torch.equal(windows, loop)
    found = rows_beneath(windows, 3)
    assert found is not None
    assert torch.equal(found, rows)
    part = rows_beneath(windows[5:20], 3)
    assert part is not None
    assert torch.equal(part, rows[5:26])


def test_rows_are_beneath_windows_of_leading_axes() -> None:
    windows = overlapping(noise(50, 3), 7)
    found = rows_beneath(windows.expand(4, *windows.shape), 3)
    assert found is not None
    assert torch.equal(found, noise(50, 3).expand(4, 50, 3))


def test_other_windows_lie_over_nothing() -> None:
    rows = noise(50, 3)
    windows = overlapping(rows, 7)
    for other in (windows.clone(), windows[::2], windows[:, 3:].clone(), windows + 1, rows):
        assert rows_beneath(other, 3) is None
    assert rows_beneath(windows, 2) is None
    assert rows_beneath(noise(1, 21).expand(9, 21), 3) is None


def test_function_of_each_entry_keeps_windows_over_one_another() -> None:
    windows = overlapping(noise(50, 3), 7)
    is_positive = windows > 0
    seen = overlapping(noise(50, 3) > 0, 7)
    for mask in (is_positive, seen):  # by itself, and over one series
        filled = each_entry(lambda x, observed: torch.where(observed, x, 0.5), windows, mask)
        assert torch.equal(filled, torch.where(is_positive, windows, 0.5))
        assert (rows_beneath(filled, 3) is not None) == (mask is seen)
    same = noise(1, 21).expand(9, 21)
    assert torch.equal(each_entry(torch.exp, same), same.exp())
