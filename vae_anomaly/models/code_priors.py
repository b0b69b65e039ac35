"""Priors p(codes | c) over the codes of a row's positions, fitted when the codes stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_anomaly.models.networks import Linear, join
from vae_anomaly.models.training import one_thread

__all__ = ["CODE_PRIORS", "AutoregressivePrior", "CategoricalPrior", "CodePrior", "CodePriorName"]

CodePriorName = Literal["categorical", "autoregressive"]

#: Width of the autoregressive network's layers.
WIDTH = 64

#: Its training: rows to a step, passes over the rows within limits of the steps, highest rate.
BATCH, EPOCHS, MIN_STEPS, MAX_STEPS, RATE = 256, 20, 200, 1500, 5e-3

#: Share of the rows that decide which of its weights are kept, and how often they are asked.
HELD_OUT, CHECKS = 0.1, 20


class CodePrior(Protocol):
    """Distribution of the codes (*, n, m) of m positions, given context (*, n, c)."""

    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        """Log-probability of each row's codes, (*, n) nats."""

    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Codes of new rows, (*, n, m) int64."""

    def fit(self, codes: Tensor, context: Tensor, generator: torch.Generator) -> None:
        """Learn from the codes (n, m) of training rows and their context (n, c)."""


class CategoricalPrior(nn.Module):
    """Each position by itself, with the frequencies of its codes; blind to the context.

    Frequencies are Laplace-smoothed: one row more had each code.

    Parameters
    ----------
    n_positions, n_codes : int
        Number m of positions and K of codes.
    n_context : int
        Number c of operating conditions, which it does not use.

    Examples
    --------
    >>> prior = CategoricalPrior(1, 2)
    >>> prior.fit(torch.tensor([[0], [0], [1]]), torch.zeros(3, 0), torch.Generator())
    >>> prior.log_prob(torch.tensor([[0], [1]]), torch.zeros(2, 0)).exp()
    tensor([0.6000, 0.4000])
    """

    log_share: Tensor

    def __init__(self, n_positions: int, n_codes: int, n_context: int = 0) -> None:
        super().__init__()
        share = torch.full((n_positions, n_codes), -math.log(n_codes))
        self.register_buffer("log_share", share)

    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        return self.log_share[torch.arange(codes.shape[-1]), codes].sum(dim=-1)

    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        return _drawn(self.log_share.expand(*context.shape[:-1], -1, -1), generator)

    @torch.no_grad()
    def fit(self, codes: Tensor, context: Tensor, generator: torch.Generator) -> None:
        counts = functional.one_hot(codes, self.log_share.shape[-1]).sum(dim=0) + 1.0  # (m, K)
        self.log_share.copy_((counts / counts.sum(dim=-1, keepdim=True)).log())


class AutoregressivePrior(nn.Module):
    """One position after the other, p(code_i | codes before it, c), by one network.

    What the codes before a position say is summed, so that one pass gives all the positions
    (NADE, Uria et al. 2016, Neural Autoregressive Distribution Estimation). It starts from the
    frequencies of a `CategoricalPrior`, and keeps the weights at which held-out rows are likeliest.
    Its parameters are fitted by `fit` alone: no other training moves them.

    Parameters
    ----------
    n_positions, n_codes : int
        Number m of positions and K of codes.
    n_context : int
        Number c of operating conditions.
    """

    def __init__(self, n_positions: int, n_codes: int, n_context: int = 0) -> None:
        super().__init__()
        self.frequencies = CategoricalPrior(n_positions, n_codes)
        self.said = nn.Parameter(torch.randn(n_positions, n_codes, WIDTH) / math.sqrt(n_positions))
        self.position = nn.Parameter(torch.randn(n_positions, WIDTH))
        self.joined = Linear(WIDTH + n_context, WIDTH)
        self.logits = Linear(WIDTH, n_codes)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        self.requires_grad_(False)

    def forward(self, codes: Tensor, context: Tensor) -> Tensor:
        """Log-probabilities of every code at every position, (*, n, m, K), given those before."""
        m = codes.shape[-1]
        said = self.said[torch.arange(m), codes]  # (*, n, m, h)
        before = functional.pad(said.cumsum(dim=-2), (0, 0, 1, 0))[..., :m, :]
        hidden = functional.silu(before + self.position)
        hidden = functional.silu(self.joined(join(hidden, context[..., None, :])))
        logits: Tensor = self.frequencies.log_share + self.logits(hidden)
        return logits.log_softmax(dim=-1)

    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        log_share: Tensor = self(codes, context).gather(-1, codes[..., None])
        return log_share.squeeze(-1).sum(dim=-1)

    @torch.no_grad()
    def draw(self, context: Tensor, generator: torch.Generator) -> Tensor:
        m = len(self.position)
        codes = torch.zeros(*context.shape[:-1], m, dtype=torch.int64, device=context.device)
        for i in range(m):
            codes[..., i] = _drawn(self(codes, context)[..., i, :], generator)
        return codes

    @one_thread()
    def fit(self, codes: Tensor, context: Tensor, generator: torch.Generator) -> None:
        order = torch.randperm(len(codes), generator=generator, device=generator.device)
        codes, context = codes[order], context[order]
        kept = round(HELD_OUT * len(codes))
        self.frequencies.fit(codes[kept:], context[kept:], generator)
        if not kept:  # fewer than five rows: nothing could tell whether more is learnt
            return
        self.requires_grad_(True)
        with torch.enable_grad():
            best = self._trained(codes, context, kept, generator)
        self.requires_grad_(False)
        self.load_state_dict(best)

    def _trained(
        self, codes: Tensor, context: Tensor, kept: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The state at which the first `kept` rows are likeliest, learning from the others."""
        n = len(codes) - kept
        n_steps = min(max(EPOCHS * n // BATCH, MIN_STEPS), MAX_STEPS) // CHECKS * CHECKS
        optimizer = torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        highest, best = self._held_out(codes[:kept], context[:kept]), self._state()
        for step in range(1, n_steps + 1):
            rows = kept + torch.randint(n, (min(BATCH, n),), generator=generator)
            optimizer.zero_grad()
            torch.autograd.backward(-self.log_prob(codes[rows], context[rows]).mean())
            optimizer.step()
            schedule.step()
            if step % (n_steps // CHECKS) == 0:
                found = self._held_out(codes[:kept], context[:kept])
                highest, best = (found, self._state()) if found > highest else (highest, best)
        return best

    @torch.no_grad()
    def _held_out(self, codes: Tensor, context: Tensor) -> float:
        return float(self.log_prob(codes, context).mean())

    def _state(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}


#: By name, what a plant file may ask for.
CODE_PRIORS: Mapping[CodePriorName, type[CategoricalPrior] | type[AutoregressivePrior]] = {
    "categorical": CategoricalPrior,
    "autoregressive": AutoregressivePrior,
}


def _drawn(log_share: Tensor, generator: torch.Generator) -> Tensor:
    """One code of each distribution (*, K), as (*) int64."""
    flat = log_share.exp().reshape(-1, log_share.shape[-1])
    return torch.multinomial(flat, 1, generator=generator).reshape(log_share.shape[:-1])
