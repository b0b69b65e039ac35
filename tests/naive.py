"""Brute-force twins of the fast algorithms: slow, short, and obviously right."""

from __future__ import annotations


class Landing:
    """What landing chunks of (asset, time, *values) does, with a dictionary."""

    def __init__(self) -> None:
        self.first: dict[tuple, tuple] = {}

    def land(self, entries: list[tuple]) -> tuple[int, int, int, int]:
        """(read, accepted, quarantined, duplicate) of one chunk of a new file."""
        accepted = quarantined = duplicate = 0
        for asset, time, *values in entries:
            there = self.first.setdefault((asset, time), None)
            if there is None:
                self.first[asset, time] = tuple(values)
                accepted += 1
            elif there == tuple(values):
                duplicate += 1
            else:
                quarantined += 1
        return len(entries), accepted, quarantined, duplicate

    def rows(self) -> list[tuple]:
        return [(*key, *values) for key, values in self.first.items()]


def runs(keys: list[tuple[str, float]], max_gap: float | None) -> list[int]:
    """Rows of the same series directly before each of the sorted (asset, time)."""
    result: list[int] = []
    for i, (asset, time) in enumerate(keys):
        joined = i > 0 and keys[i - 1][0] == asset
        if joined and max_gap is not None and time - keys[i - 1][1] > max_gap:
            joined = False
        result.append(result[-1] + 1 if joined else 0)
    return result
