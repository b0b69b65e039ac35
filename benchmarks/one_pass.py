"""What one pass of a temporal encoder over a series costs, beside one call for its windows.

    python benchmarks/one_pass.py --out benchmarks/results/one_pass.md

Time of one thread for each row, the best of five; both give the same posteriors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import LocationScale
from vae_anomaly.models.networks import Shape, Sizes
from vae_anomaly.models.standardize import Batch, windowed
from vae_anomaly.models.training import one_thread
from vae_anomaly.scoring.scorer import BLOCK_ROWS

N_ROWS, N_LATENTS = 4 * BLOCK_ROWS, 8
CASES = (
    (20, 10, (64, 64)),
    (60, 10, (64, 64)),
    (60, 10, (32, 32, 32)),
    (60, 50, (64, 64)),
    (240, 10, (64, 64, 64)),
)


def microseconds(work: Callable[[], object]) -> float:
    """Best time of five for each row."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1e6 * min(times) / N_ROWS


@one_thread()
@torch.inference_mode()
def one_case(window: int, d: int, hidden: tuple[int, ...]) -> str:
    sizes = Sizes(Shape(d, window=window), N_LATENTS, hidden, "temporal")
    encoder, decoder = GaussianEncoder(sizes).eval(), LocationScale(sizes).eval()
    x, run = torch.randn(N_ROWS, d), torch.arange(N_ROWS)
    batch = Batch(x, x.isfinite(), torch.zeros(N_ROWS, 0), torch.zeros(N_ROWS, dtype=torch.int64))

    def by_windows() -> Tensor:
        blocks = (windowed(batch, run, index, window) for index in run.split(BLOCK_ROWS))
        return torch.cat([encoder(block.x, block.context).mean for block in blocks])

    def in_one_pass() -> Tensor:
        return encoder.over(batch.x, batch.context).mean

    z = in_one_pass()
    apart = float((by_windows()[window - 1 :] - z).abs().max())
    slow, fast = microseconds(by_windows), microseconds(in_one_pass)
    rest = microseconds(lambda: [decoder(some, some[:, :0]).mean for some in z.split(BLOCK_ROWS)])
    cells = f"{slow:.1f} | {fast:.2f} | {slow / fast:.0f} | {rest:.1f} | {apart:.0e}"
    return f"| {window} | {d} | {' '.join(map(str, hidden))} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = [
        "`python benchmarks/one_pass.py`: microseconds a row, one thread. The decoder makes each",
        "window anew, so one pass speeds up embedding, and scoring by at most the encoder's share.",
        "",
        "| window | sensors | channels | windows | one pass | times faster | decoder | apart |",
        "|---|---|---|---|---|---|---|---|",
        *(one_case(*case) for case in CASES),
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
