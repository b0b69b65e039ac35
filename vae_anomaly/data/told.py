"""What people said of rows, laid over the labels that the rows came with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["FOREVER", "Told", "confirmed", "disjoint"]

#: End of what is not over yet.
FOREVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class Told:
    """Rows of an asset from `start` to before `end`, in microseconds since 1970.

    Attributes
    ----------
    start, end : int
    label : int
        0 normal, positive an anomaly (its class), -1 unlabelled; takes the place of the label
        that a row has.
    counts : bool
        False for rows that belong to no part, as nobody knows what they are. They have a label
        above 0, so that windows that look back on them set no threshold either.
    """

    start: int
    end: int
    label: int
    counts: bool = True

    @property
    def is_fault(self) -> bool:
        """Whether people confirmed a fault here."""
        return self.counts and self.label > 0


def disjoint(told: Sequence[Told]) -> tuple[Told, ...]:
    """Spans in the order of time, no two of them overlapping: the later one given holds.

    Examples
    --------
    >>> [(t.start, t.end, t.label) for t in disjoint([Told(0, 9, 1), Told(3, 5, 0)])]
    [(0, 3, 1), (3, 5, 0), (5, 9, 1)]
    """
    if not told:
        return ()
    edges = np.unique([[entry.start, entry.end] for entry in told])
    owner = np.full(len(edges), -1)  # of what lies between an edge and the next one
    for number, entry in enumerate(told):
        first, last = np.searchsorted(edges, [entry.start, entry.end])
        owner[first:last] = number
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    ends = [*begins[1:], len(edges) - 1]
    return tuple(
        replace(told[owner[a]], start=int(edges[a]), end=int(edges[b]))
        for a, b in zip(begins, ends, strict=True)
        if owner[a] >= 0
    )


def confirmed(told: Sequence[Told]) -> tuple[Told, ...]:
    """Confirmed faults; those that touch are one, as two entries about one event are not two.

    Parameters
    ----------
    told : sequence of Told
        As `disjoint` gives them.

    Examples
    --------
    >>> spans = Told(0, 3, 1), Told(3, 5, 2), Told(6, 9, 0), Told(9, 11, 1)
    >>> [(fault.start, fault.end) for fault in confirmed(spans)]
    [(0, 5), (9, 11)]
    """
    found: list[Told] = []
    for span in told:
        if not span.is_fault:
            continue
        if found and span.start <= found[-1].end:
            found[-1] = replace(found[-1], end=span.end)
        else:
            found.append(span)
    return tuple(found)
