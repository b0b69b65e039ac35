"""A file as it comes out of an old control room, with all that can be wrong in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2025, 10, 20, tzinfo=UTC)
PERIOD = timedelta(minutes=30)


@dataclass(frozen=True)
class Hostile:
    """What was written, by what should become of it."""

    n_lines: int
    n_moments: int
    n_repeated: int
    n_conflicting: int
    n_fahrenheit: int
    first_fahrenheit: datetime


def write_hostile(path: Path, *, n_moments: int = 8200, seed: int = 0) -> Hostile:
    """Half a year of Berlin's wall clock: semicolons, commas, both changes of the clocks.

    With a preamble, a constant, a total, a column that goes on in °F, repeated and conflicting
    rows, and words where numbers should be.
    """
    rng = np.random.default_rng(seed)
    load = np.cumsum(rng.normal(size=n_moments)) * 0.02
    load = np.sin(np.arange(n_moments) / 24) + (load - load.mean())
    columns = {
        "Ofen °C": 640 + 12 * load + rng.normal(size=n_moments),
        "Druck [bar]": 5.2 + 0.4 * load + 0.05 * rng.normal(size=n_moments),
        "Durchfluss": 41 + 3 * load + 0.2 * rng.normal(size=n_moments),
        "Lager Temp": 42 + 2 * load + 0.3 * rng.normal(size=n_moments),
        "Sollwert": np.full(n_moments, 3.5),
        "Zaehler m3": 120_000 + np.cumsum(np.abs(rng.normal(size=n_moments)) + 0.1),
    }
    n_fahrenheit = n_moments // 20
    columns["Lager Temp"][-n_fahrenheit:] = 1.8 * columns["Lager Temp"][-n_fahrenheit:] + 32
    lines: list[str] = []
    again: list[tuple[int, str]] = []
    for at in range(n_moments):
        moment = (START + at * PERIOD).astimezone(BERLIN)
        cells = [f"{values[at]:.3f}".replace(".", ",") for values in columns.values()]
        if at % 400 == 31:
            cells[1] = "Bad"
        if at % 900 == 77:
            cells[2] = "I/O Timeout"
        line = f"{moment:%d.%m.%Y %H:%M};{';'.join(cells)}"
        lines.append(line)
        if at % 1000 == 500:
            again.append((at, line))
        if at % 2000 == 700:
            again.append((at, line.replace(";", ";9", 1)))
    n_repeated = sum(line == lines[at] for at, line in again)
    for at, line in reversed(again):
        lines.insert(at + 1, line)
    head = ["Messwertexport Werk Süd", "erstellt 01.05.2026", ""]
    text = "\r\n".join([*head, ";".join(["Zeit", *columns]), *lines]) + "\r\n"
    path.write_bytes(text.encode("cp1252"))
    first = START + (n_moments - n_fahrenheit) * PERIOD
    return Hostile(len(lines), n_moments, n_repeated, len(again) - n_repeated, n_fahrenheit, first)
