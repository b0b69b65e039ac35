"""The data page as tables, for the terminal and Prefect, and as files with pictures, for MLflow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from vae_anomaly import pictures
from vae_anomaly.data.quality import STATES
from vae_anomaly.steps.survey import AssetRows, Survey
from vae_anomaly.table import Table

__all__ = ["survey_tables", "write_survey"]

#: Characters of an example that the page shows.
MOST_DETAIL = 90

#: Texts that a row of the page names.
MOST_TEXTS = 3


def survey_tables(found: Survey) -> tuple[Table, ...]:
    """The page as tables: rows by asset, cells by sensor, the quarantine by reason."""
    return (_rows_table(found), _cells_table(found), _quarantine_table(found))


def _rows_table(found: Survey) -> Table:
    files = ", ".join(f"{n:,} {status}" for status, n in sorted(found.files.items()))
    summary = f"{found.n_rows:,} readings (version {found.readings_version}); files: {files}."
    body = []
    for asset in sorted(found.assets, key=lambda a: -int(_idle_bins(a).sum())):
        busy = asset.per_bin[asset.per_bin > 0]
        n_idle = int(_idle_bins(asset).sum()) * found.bin_hours
        body.append(
            (
                asset.asset,
                f"{asset.n_rows:,}",
                f"{asset.first:%Y-%m-%d %H:%M}",
                f"{asset.last:%Y-%m-%d %H:%M}",
                f"{np.median(busy) / found.bin_hours:,.0f}",
                f"{n_idle:,}",
            )
        )
    notes = [
        f"{path.rpartition('/')[2]}: {n:,} rows lie before one above them; the largest step back "
        f"is {step:,.0f} s"
        for path, (n, step) in sorted(found.disorder.items(), key=lambda item: -item[1][0])[:5]
    ]
    columns = ("asset", "readings", "first (UTC)", "last (UTC)", "rows/hour", "hours without")
    return Table("Data", summary, columns, tuple(body), tuple(notes))


def _idle_bins(asset: AssetRows) -> np.ndarray:
    """Bins without a reading, between the first and the last that has one."""
    busy = np.flatnonzero(asset.per_bin)
    inside = np.zeros(len(asset.per_bin), dtype=bool)
    inside[busy[0] : busy[-1] + 1] = True
    idle: np.ndarray = inside & (asset.per_bin == 0)
    return idle


def _cells_table(found: Survey) -> Table:
    n_cells = found.cells.total()
    by_state = Counter[str]()
    for cell, n in found.cells.items():
        by_state[cell.state] += n
    said = ", ".join(f"{by_state[state]:,} {state}" for state in STATES if by_state[state])
    summary = f"{n_cells:,} cells read: {said}." if n_cells else "No cell was read."
    if found.n_filled:
        share = found.n_filled / max(1, found.n_rows * len(found.sensors))
        summary += f" {share:.2%} of the readings' cells are filled from other moments."
    body = []
    missing = {name: found.n_missing[name] for name in found.sensors}
    for name in sorted(found.sensors, key=lambda name: -missing[name]):
        states, texts = found.states(name), found.texts(name)
        if not missing[name] and not texts:
            continue
        named = ", ".join(f"{text} {n:,}" for text, n in texts.most_common(MOST_TEXTS))
        share = missing[name] / max(1, found.n_rows)
        numbers = (states[state] for state in STATES[1:])
        body.append((name, f"{share:.1%}", *(f"{n:,}" for n in numbers), named))
    whole = len(found.sensors) - len(body)
    notes = (f"{whole:,} of {len(found.sensors):,} sensors have a value in every row",)
    is_said = whole and found.n_rows  # of no row, it would say nothing
    columns = ("sensor", "missing", *STATES[1:], "most often")
    return Table(
        "Missing", summary, columns, tuple(body), notes if is_said else (), prose=("most often",)
    )


def _quarantine_table(found: Survey) -> Table:
    n_rows = sum(refused.n_rows for refused in found.refused)
    body = tuple(
        (
            refused.reason,
            f"{refused.n_rows:,}",
            f"{refused.path.rpartition('/')[2]} row {refused.row:,}: {_cut(refused.detail)}",
        )
        for refused in found.refused
    )
    columns = ("reason", "rows", "for example")
    notes = tuple(
        f"{path.rpartition('/')[2]} (quarantined): {why.replace(path, 'the file')}"
        for path, why in sorted(found.unread.items())
    )
    n = len(notes)
    summary = f"{n_rows:,} rows" + (f", and {n:,} file{'s' * (n > 1)}." if n else ".")
    return Table("Quarantine", summary, columns, body, notes, ("for example",))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_DETAIL else f"{text[:MOST_DETAIL]}…"


def write_survey(found: Survey, folder: Path) -> Path:
    """Write the page as Markdown with its two pictures; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(table.markdown() for table in survey_tables(found))
    (folder / "data.md").write_text(f"{text}\n", encoding="utf-8")
    if found.assets:
        pictures.rows_per_hour(
            folder / "rows_per_hour.png",
            [asset.asset for asset in found.assets],
            np.stack([asset.per_bin for asset in found.assets]) / found.bin_hours,
            start=np.datetime64(found.start.replace(tzinfo=None), "s"),
            bin_hours=found.bin_hours,
            subject=found.plant,
        )
    if found.cells.total():
        pictures.cell_states(
            folder / "cells.png",
            found.sensors,
            [[found.states(name)[state] for state in STATES] for name in found.sensors],
            STATES,
            subject=found.plant,
        )
    return folder
