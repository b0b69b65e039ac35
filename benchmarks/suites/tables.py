"""Markdown from records: a summary with a row a method, and a table with a row a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from suites.case import Suite
from suites.records import Record
from vae_anomaly.scoring.smoothing import SCALES

__all__ = ["page"]

MISSING = "–"

SMOOTHED = (
    "Scores are smoothed alike: the largest of four EWMAs, of rates "
    f"{', '.join(f'{rate:g}' for rate in SCALES)}, each over its standard deviation; level and "
    "spread of a normal score are those on the last fifth of the training rows, after learning the "
    "rest. A method without a figure under `no smoothing` smooths its own score."
)


def page(suite: Suite, records: Sequence[Record], published: Mapping[str, float]) -> list[str]:
    """All lines of the file of results."""
    seeds = sorted({record.seed for record in records})
    cases = list(dict.fromkeys(record.case for record in records))
    first = [record for record in records if record.seed == seeds[0]]  # drawn rows vary a little
    rows = {record.case: (record.n_train, record.n_test) for record in first}
    shown = ", ".join(map(str, seeds))
    return [
        f"`python benchmarks/quality.py {suite.command} --seeds {len(seeds)}`: "
        f"{len(cases)} data set{'s' * (len(cases) > 1)}, seed{'s' * (len(seeds) > 1)} {shown}; "
        f"{sum(n for n, _ in rows.values()):,} rows to learn from and "
        f"{sum(n for _, n in rows.values()):,} scored ones, of seed {seeds[0]}. {suite.says}",
        *(("", SMOOTHED) if suite.is_series else ()),
        "",
        "Mean ± standard deviation over seeds" + (", in percent." if suite.percent else "."),
        "",
        *_summary(suite, records, published),
        "",
        *_each(suite, records, rows),
        *_notes(records),
    ]


def _summary(
    suite: Suite, records: Sequence[Record], published: Mapping[str, float]
) -> Iterator[str]:
    columns = [c for c in suite.columns if any(c in record.figures for record in records)]
    yield "| method | " + " | ".join(columns) + " | seeds | CPU seconds |"
    yield "|---" * (len(columns) + 3) + "|"
    n_cases = len({record.case for record in records})
    for detector in dict.fromkeys(record.detector for record in records):
        own = [record for record in records if record.detector == detector]
        whole = _of_whole_seeds(own, n_cases)
        cells = [_mean_and_spread(whole, column, suite) for column in columns]
        seconds = np.mean([record.cpu_seconds for record in own])
        n_seeds = str(len({record.seed for record in whole})) if whole else "incomplete"
        yield f"| {detector} | " + " | ".join(cells) + f" | {n_seeds} | {seconds:.2f} |"
    scale = 100 if suite.percent else 1
    for method, value in published.items():
        rest = f" | {MISSING}" * (len(columns) + 1)
        yield f"| *published:* {method} | {_number(value * scale, suite)}{rest} |"


def _of_whole_seeds(records: Sequence[Record], n_cases: int) -> list[Record]:
    """Records of the seeds that have all data sets: a mean over some says nothing."""
    seeds = [record.seed for record in records]
    return [record for record in records if seeds.count(record.seed) == n_cases]


def _mean_and_spread(records: Sequence[Record], column: str, suite: Suite) -> str:
    found = [record for record in records if column in record.figures]
    if not found:
        return MISSING
    scale = 100 if suite.percent else 1
    means = [
        scale * np.mean([r.figures[column] for r in found if r.seed == seed])
        for seed in sorted({record.seed for record in found})
    ]
    spread = f" ± {_number(float(np.std(means, ddof=1)), suite)}" if len(means) > 1 else ""
    return _number(float(np.mean(means)), suite) + spread


def _number(value: float, suite: Suite) -> str:
    return f"{value:.2f}" if suite.percent else f"{value:.4f}"


def _each(
    suite: Suite, records: Sequence[Record], rows: Mapping[str, tuple[int, int]]
) -> Iterator[str]:
    """The first column for each data set; of a single one, what else its figures tell."""
    detectors = list(dict.fromkeys(record.detector for record in records))
    main = suite.columns[0]
    entries = [(f"{case} ({n:,} / {m:,})", case, main) for case, (n, m) in rows.items()]
    head = f"{main}: data set (rows to learn from / scored)"
    if len(rows) == 1:
        (case,) = rows
        details = [name for name in records[0].figures if name not in suite.columns]
        entries, head = [(name, case, name) for name in details], case
    if not entries:
        return
    yield f"| {head} | " + " | ".join(detectors) + " |"
    yield "|---" * (len(detectors) + 1) + "|"
    for title, case, figure in entries:
        cells = []
        for detector in detectors:
            own = [r for r in records if (r.case, r.detector) == (case, detector)]
            values = [r.figures[figure] for r in own if figure in r.figures]
            scale = 100 if suite.percent else 1
            cells.append(
                f"{scale * np.mean(values):.{1 if suite.percent else 3}f}" if values else MISSING
            )
        yield f"| {title} | " + " | ".join(cells) + " |"
    yield ""


def _notes(records: Sequence[Record]) -> Iterator[str]:
    """What the reader has to know of single results."""
    refused = [record for record in records if record.refused]
    for detector in dict.fromkeys(record.detector for record in refused):
        own = [record for record in refused if record.detector == detector]
        cases = ", ".join(dict.fromkeys(record.case for record in own))
        yield (
            f"- {detector} could not learn {cases} ({own[0].refused}); its scores count as all "
            "equal there."
        )
    versions = {record.detector: set[str]() for record in records}
    for record in records:
        versions[record.detector].add(record.code)
    mixed = [detector for detector, codes in versions.items() if len(codes) > 1]
    if mixed:
        yield (
            f"- Results of {', '.join(mixed)} come from more than one version of the package; "
            f"`--again {' '.join(repr(name) for name in mixed)}` computes them anew."
        )
