"""What one pass of a temporal encoder over a series costs, beside one call for its windows.

    python benchmarks/one_pass.py --out benchmarks/results/one_pass.md

Processor time of one thread for each row, the best of seven, both ways in turn; both give the same
posteriors, and the same scores to the last bit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import LocationScale
from vae_anomaly.models.networks import Shape, Sizes
from vae_anomaly.models.standardize import Batch, fit_standardizer, windowed
from vae_anomaly.models.training import one_thread
from vae_anomaly.models.variants import Gaussian
from vae_anomaly.scoring import blocks
from vae_anomaly.scoring.scorer import BLOCK_ROWS, Scorer

N_ROWS, N_LATENTS, N_TIMES = 4 * BLOCK_ROWS, 8, 7
CASES = (
    (10, 10, (64, 64)),
    (10, 50, (64, 64)),
    (20, 10, (64, 64)),
    (60, 10, (64, 64)),
    (60, 10, (32, 32, 32)),
    (60, 50, (64, 64)),
    (240, 10, (64, 64, 64)),
)


def microseconds(*works: Callable[[], object]) -> list[float]:
    """Best time of each for a row, where they take turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(N_TIMES):
        for work, own in zip(works, times, strict=True):
            started = time.thread_time()
            work()
            own.append(time.thread_time() - started)
    return [1e6 * min(own) / N_ROWS for own in times]


@contextmanager
def windows_copied() -> Iterator[None]:
    """The scorer copies each window, as it does where series are short."""
    least, blocks.LEAST_OWN = blocks.LEAST_OWN, 2.0
    try:
        yield
    finally:
        blocks.LEAST_OWN = least


@one_thread()
@torch.inference_mode()
def of_encoder(window: int, d: int, hidden: tuple[int, ...]) -> str:
    sizes = Sizes(Shape(d, window=window), N_LATENTS, hidden, "temporal")
    encoder, decoder = GaussianEncoder(sizes).eval(), LocationScale(sizes).eval()
    x, run = torch.randn(N_ROWS, d), torch.arange(N_ROWS)
    batch = Batch(x, x.isfinite(), torch.zeros(N_ROWS, 0), torch.zeros(N_ROWS, dtype=torch.int64))

    def by_windows() -> Tensor:
        parts = (windowed(batch, run, index, window) for index in run.split(BLOCK_ROWS))
        return torch.cat([encoder(part.x, part.context).mean for part in parts])

    def in_one_pass() -> Tensor:
        return encoder.over(batch.x, batch.context).mean

    z = in_one_pass()
    apart = float((by_windows()[window - 1 :] - z).abs().max())
    slow, fast = microseconds(by_windows, in_one_pass)
    (rest,) = microseconds(
        lambda: [decoder(some, some[:, :0]).mean for some in z.split(BLOCK_ROWS)]
    )
    return f"{slow:.1f} | {fast:.2f} | {slow / fast:.1f} | {rest:.1f} | {apart:.0e}"


@torch.inference_mode()
def of_scorer(window: int, d: int, hidden: tuple[int, ...]) -> str:
    variant = Gaussian(latent_dim=N_LATENTS, hidden=hidden, backbone="temporal")
    rows, run = torch.randn(N_ROWS, d, dtype=torch.float64), torch.arange(N_ROWS)
    module = variant.build(Shape(d, window=window))
    scorer = Scorer(fit_standardizer(rows, 0), module, variant=variant, window=window)

    def by_windows() -> Tensor:
        with windows_copied():
            return scorer(rows, run)[0]

    def in_one_pass() -> Tensor:
        return scorer(rows, run)[0]

    assert torch.equal(by_windows(), in_one_pass())
    slow, fast = microseconds(by_windows, in_one_pass)
    return f"{slow:.1f} | {fast:.1f} | {slow / fast:.2f}"


def one_case(window: int, d: int, hidden: tuple[int, ...]) -> str:
    torch.manual_seed(0)
    case = f"{window} | {d} | {' '.join(map(str, hidden))}"
    return f"| {case} | {of_encoder(window, d, hidden)} | {of_scorer(window, d, hidden)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = [
        "`python benchmarks/one_pass.py`: microseconds of processor time a row, one thread, the",
        f"best of {N_TIMES}. First the encoder by itself, for each window and in one pass, and the",
        "decoder, which makes each window anew; then the whole scorer, where it copies each window",
        "and where windows lie over their series. Scores are the same to the last bit.",
        "",
        "| window | sensors | channels | windows | one pass | times faster | decoder | apart "
        "| scorer, windows | scorer, one pass | times faster |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(one_case(*case) for case in CASES),
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
