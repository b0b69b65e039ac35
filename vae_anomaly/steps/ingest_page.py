"""What an ingest did, as a table; apart from the reports of models, whose imports take seconds."""

from __future__ import annotations

from collections import Counter

from vae_anomaly.data.layout import Shaped
from vae_anomaly.data.quality import CellCounts
from vae_anomaly.steps.file_records import FileReport, IngestReport
from vae_anomaly.table import Table

__all__ = ["ingest_table"]

#: Texts and codes that a note names.
MOST_TEXTS = 5


def ingest_table(report: IngestReport) -> Table:
    """Counts of an ingest, by file; unchanged files are only counted."""
    counts = report.counts
    not_read = {status: len(report.with_status(status)) for status in ("unchanged", "growing")}
    read = [file for file in report.files if file.status not in not_read]
    summary = (
        f"{counts.n_read:,} rows read = {counts.n_accepted:,} accepted + "
        f"{counts.n_quarantined:,} quarantined + {counts.n_duplicate:,} duplicate, from "
        f"{len(read)} of {len(report.files)} files"
    )
    others = ", ".join(f"{n} {status}" for status, n in not_read.items() if n)
    summary += f" ({others})." if others else "."
    reasons = sorted(report.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    notes = ["quarantined: " + ", ".join(f"{reason} {n:,}" for reason, n in reasons)] * bool(
        reasons
    )
    notes += _cell_notes(report.cells)
    notes += _shape_notes(report.shaped)
    notes += [
        f"{_name(file.path)}: {order.n_out_of_order:,} out of order; the largest step back in time "
        f"is {order.largest_step_back_s:,.0f} s, at row {order.at_row:,}"
        for file in report.files
        if (order := file.order).n_out_of_order
    ]
    notes += [
        f"{_name(file.path)} ({file.status}): {_without_path(file)}"
        for file in report.files
        if file.reason
    ]
    columns = ("file", "status", "read", "accepted", "quarantined", "duplicate")
    read.sort(
        key=lambda f: (f.status == "ingested", -f.counts.n_quarantined, -f.counts.n_duplicate)
    )
    lines = tuple(_file_row(file) for file in read)
    return Table("Ingest", summary, columns, lines, tuple(notes), ("file",))


def _cell_notes(cells: CellCounts) -> list[str]:
    """What stood in cells that count as missing, and in how many sensors."""
    notes = []
    for state, words in (("text", "no value"), ("quality", "bad quality")):
        found: dict[str, list[int]] = {}
        for cell, n in cells.items():
            if cell.state == state:
                found.setdefault(cell.text or "no code", []).append(n)
        said = [
            f"{text} {sum(ns):,} in {len(ns):,} sensor{'s' * (len(ns) > 1)}"
            for text, ns in sorted(found.items(), key=lambda item: -sum(item[1]))
        ]
        more = f" and {len(said) - MOST_TEXTS} more" if len(said) > MOST_TEXTS else ""
        notes += [f"{words}: {', '.join(said[:MOST_TEXTS])}{more}"] * bool(said)
    unused = Counter({cell.text: n for cell, n in cells.items() if cell.state == "unused"})
    if unused:
        said = [tag for tag, _ in unused.most_common(MOST_TEXTS)]
        more = f" and {len(unused) - MOST_TEXTS} more" if len(unused) > MOST_TEXTS else ""
        notes += [
            f"tags not in the contract: {unused.total():,} rows of {', '.join(said)}{more}; kept "
            "in samples, not used"
        ]
    return notes


def _shape_notes(shaped: Shaped | None) -> list[str]:
    """Readings that were formed from samples, and what was filled in them."""
    if shaped is None:
        return []
    notes = [f"{shaped.n_readings:,} readings formed from samples"]
    filled = [(name, n) for name, n in shaped.filled.most_common() if n]
    if filled:
        said = [f"{name} {n / shaped.n_readings:.2%}" for name, n in filled[:MOST_TEXTS]]
        more = f" and {len(filled) - MOST_TEXTS} more" if len(filled) > MOST_TEXTS else ""
        notes += [f"cells filled from other moments: {', '.join(said)}{more}"]
    if shaped.n_late:
        notes += [
            f"{shaped.n_late:,} samples came after the readings of their time were formed and are "
            "not in them; raise contract.sampling.wait_s if that is to wait for such"
        ]
    return notes


def _without_path(file: FileReport) -> str:
    return (file.reason or "").replace(file.path, "the file")


def _file_row(file: FileReport) -> tuple[str, ...]:
    c = file.counts
    numbers = (c.n_read, c.n_accepted, c.n_quarantined, c.n_duplicate)
    return (_name(file.path), file.status, *(f"{n:,}" for n in numbers))


def _name(path: str) -> str:
    return path.rpartition("/")[2]
