"""Which rows a scorer learns from: those with a value, and with no labelled anomaly about them."""

from __future__ import annotations

import torch

from vae_anomaly.decisions.reference import clear_of_anomalies
from vae_anomaly.errors import PartsError
from vae_anomaly.models.standardize import Batch, Series, Standardizer, Windows, joined
from vae_anomaly.models.variants import Variant
from vae_anomaly.scoring.baselines import Simple
from vae_anomaly.scoring.scorer import refuse_misfits

__all__ = [
    "HELD_OUT_ROWS",
    "anomalous_windows",
    "learnable_windows",
    "left_out_note",
    "normal_windows",
    "refuse_nothing",
]

#: Held-out rows that decide when training stops, and that scores are fitted on; evenly spaced.
HELD_OUT_ROWS = 8192

#: Rows that are standardised at once when fitting: float64 copies of more would fill the memory.
STANDARDIZED_ROWS = 65_536


def learnable_windows(
    series: Series, standardizer: Standardizer, window: int, variant: Variant | Simple
) -> Windows:
    """The rows with a value; without a labelled anomaly in their window, but for members that
    learn from labels.
    """
    batch = _standardized(series, standardizer)
    clear = clear_of_anomalies(series.label.numpy(), series.run.numpy(), window - 1)
    anomalous = ~torch.from_numpy(clear)
    if variant.learns_labels:
        anomalous &= series.label <= 0  # a normal row after an anomaly is neither
    fit = ~anomalous & batch.observed.any(dim=-1)
    rows = fit.nonzero().squeeze(-1)
    return Windows(batch, series.run, rows, window)


def normal_windows(windows: Windows) -> Windows:
    """Those of the rows that bear no label of an anomaly."""
    return windows.only(windows.batch.label[windows.rows] <= 0)


def refuse_nothing(train: Windows, stop: Windows) -> None:
    """Raise a PartsError where no sensor varies, or a part has no normal row."""
    if not train.batch.x.shape[-1]:
        raise PartsError(
            f"no sensor varies in the normal ones of the {len(train.run)} rows of part 'train'; "
            "there is nothing to learn: give it more rows, or other sensors"
        )
    for part, windows in (("train", train), ("stop", stop)):
        if not (windows.batch.label[windows.rows] <= 0).any():
            raise PartsError(
                f"none of the {len(windows.run)} rows of part '{part}' is normal and has a value; "
                "give it more rows"
            )


def anomalous_windows(series: Series, standardizer: Standardizer, window: int) -> Windows:
    """The rows with a value that bear the label of an anomaly."""
    batch = _standardized(series, standardizer)
    rows = ((series.label > 0) & batch.observed.any(dim=-1)).nonzero().squeeze(-1)
    return Windows(batch, series.run, rows, window)


def _standardized(series: Series, standardizer: Standardizer) -> Batch:
    """Single rows with their labels."""
    refuse_misfits(series.rows, series.run, len(standardizer.center))
    pieces = torch.split(series.rows, STANDARDIZED_ROWS)
    return joined([standardizer(rows) for rows in pieces])._replace(label=series.label)


def left_out_note(train: Windows) -> list[str]:
    """What is to be said of rows that are not learnt from, if there are any."""
    n = len(train.run) - len(train.rows)
    if not n:
        return []
    return [
        f"{n} of {len(train.run)} rows are not trained on: their window holds a labelled anomaly, "
        "or no sensor has a value"
    ]
