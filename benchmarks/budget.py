"""How often a budget of alarms is kept: fresh alarms of simulated fleets beside what was said.

    python benchmarks/budget.py --seeds 20 --out benchmarks/results/budget.md

20 assets with hourly normal scores, ten weeks to calibrate on and ten fresh ones, 2 alarms per
asset and week. The laws differ in their tails (normal, Student's t) and memory (first-order
autoregressive).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vae_anomaly.config import AlarmRule, Budget
from vae_anomaly.decisions.alarms import Evidence, episodes
from vae_anomaly.decisions.budget import History, within_budget

HOUR, N_ASSETS, WEEKS = 3_600_000_000, 20, 10

#: Memory from one hour to the next, and degrees of freedom of the noise.
LAWS: dict[str, tuple[float, float]] = {
    "normal": (0.0, np.inf),
    "Student's t, 3 degrees of freedom": (0.0, 3.0),
    "normal, memory 0.8": (0.8, np.inf),
    "Student's t, 5 degrees, memory 0.95": (0.95, 5.0),
}


def fleet(memory: float, degrees: float, seed: int) -> tuple[list[History], list[History]]:
    """Scores of the assets in the weeks to calibrate on, and in the fresh ones."""
    generator = np.random.default_rng(seed)
    n = 2 * WEEKS * 7 * 24
    shape = (n, N_ASSETS)
    noise = generator.standard_normal(shape)
    if np.isfinite(degrees):
        noise = generator.standard_t(degrees, shape)
    score = noise.copy()
    for row in range(1, n):
        score[row] = memory * score[row - 1] + np.sqrt(1 - memory**2) * noise[row]
    time = np.arange(n) * HOUR
    parts = (slice(n // 2), slice(n // 2, n))
    seen, fresh = (
        [History(time[part], own[part], np.ones(n // 2, bool)) for own in score.T] for part in parts
    )
    return seen, fresh


def alarms(histories: list[History], threshold: float, rule: AlarmRule) -> int:
    """Alarms of all assets."""
    n = 0
    for rows in histories:
        exceeds = rows.score > threshold
        n += len(episodes(Evidence(rows.time, exceeds, ~exceeds, ~rows.is_normal), rule))
    return n


def page(seeds: int) -> Iterator[str]:
    yield (
        f"`python benchmarks/budget.py --seeds {seeds}`: {N_ASSETS} assets, {WEEKS} weeks of "
        "hourly normal scores to calibrate on and as many fresh ones, a budget of 2 alarms per "
        "asset and week. Held: in how many fleets the fresh count lay in the stated 95 % interval."
    )
    yield ""
    yield "| scores | held | fresh alarms, mean | expected, mean | interval, mean | rules chosen |"
    yield "|---|---|---|---|---|---|"
    for name, (memory, degrees) in LAWS.items():
        counts, ends, rules = [], [], set()
        for seed in range(seeds):
            seen, fresh = fleet(memory, degrees, seed)
            choice = within_budget({"*": seen}, Budget(alarms=2), multiples=())
            counts.append(alarms(fresh, choice.thresholds["*"], choice.rule))
            length_s = sum(rows.length_s for rows in fresh)
            ends.append(choice.forecast.expected(length_s))
            rules.add(f"{choice.rule.raise_after} of {choice.rule.out_of}")
        held = sum(end.low <= n <= end.high for n, end in zip(counts, ends, strict=True))
        low, value, high = (
            np.mean([getattr(end, part) for end in ends]) for part in ("low", "value", "high")
        )
        yield (
            f"| {name} | {held} of {seeds} | {np.mean(counts):.0f} | {value:.0f} | "
            f"{low:.0f} to {high:.0f} | {', '.join(sorted(rules))} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = list(page(options.seeds))
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
