"""Training that is done again, with a remedy, where the latent carries too little."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vae_anomaly.config import Training
from vae_anomaly.errors import TrainingError
from vae_anomaly.models.doctor import (
    CLEARLY,
    WORTH,
    Event,
    Latent,
    alone,
    diagnosis,
    is_clearly_above,
    is_measured_in_nats_alike,
    worth,
)
from vae_anomaly.models.likelihoods import standard_normal
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.remedies import remedies
from vae_anomaly.models.settings import Objective
from vae_anomaly.models.standardize import Batch, Windows, split
from vae_anomaly.models.training import Check, History, one_thread, seeded, train
from vae_anomaly.models.vae import Model
from vae_anomaly.models.variants import Variant

__all__ = ["Trained", "train_attempts"]

logger = logging.getLogger(__name__)

#: Training rows that are looked at before training; evenly spaced.
PREPARE_ROWS = 16_384

#: Samples a row of the bound by which attempts are compared, and rows to a block.
BOUND_SAMPLES, BOUND_BLOCK = 4, 1024

#: Training rows whose mean and variance judge each sensor by itself.
GAIN_ROWS = 8192


class Gain(NamedTuple):
    """What a model knows of the rows beyond each sensor by itself, in nats a row.

    Attributes
    ----------
    bound : float
        Median bound on log p(x | c) of normal held-out rows.
    alone : float
        The same where a Gaussian judges each sensor by itself.
    is_clear : bool
        The bound is clearly above, or need not be: the two cannot be compared, or the sensors
        hardly vary together.
    """

    bound: float = 0.0
    alone: float = 0.0
    is_clear: bool = True

    def __str__(self) -> str:
        return (
            f"the typical bound of held-out rows, {self.bound:.4g} nats, is not clearly above the "
            f"{self.alone:.4g} of each sensor judged by itself"
        )


@dataclass(frozen=True)
class Trained:
    """A trained member of the family.

    Attributes
    ----------
    module : Model
    variant : Variant
        With the settings that it was trained with in the end.
    training : Training
        Likewise.
    history : History
        Of the attempt that was kept.
    latent : Latent
        How much of the latent is used.
    gain : Gain
        What is known beyond each sensor by itself.
    """

    module: Model
    variant: Variant
    training: Training
    history: History
    latent: Latent
    gain: Gain

    @property
    def has_learnt_nothing(self) -> bool:
        """The sensors vary together, and the model knows no more than each by itself."""
        return not self.gain.is_clear

    @property
    def is_unwell(self) -> bool:
        return self.is_collapsed or self.has_learnt_nothing

    @property
    def seen(self) -> str:
        """What of it gives the doctor work."""
        is_used_in_vain = self.has_learnt_nothing and self.latent.n_active > 0
        return f"{self.latent}, and {self.gain}" if is_used_in_vain else str(self.latent)

    @property
    def is_collapsed(self) -> bool:
        objective = self.variant if isinstance(self.variant, Objective) else None
        return self.latent.is_collapsed(objective)

    @property
    def last_step(self) -> int:
        return self.history.checks[-1].step

    def told(self, events: list[Event]) -> Trained:
        """The same, with further events."""
        history = replace(self.history, events=(*self.history.events, *events))
        return replace(self, history=history)

    @property
    def note(self) -> str:
        """What an operator must know of the latent; empty where it is used to some end."""
        n = self.latent.n_causes
        causes = f"although the sensors show {n} common cause{'s' * (n > 1)}"
        if self.has_learnt_nothing and self.latent.n_active:
            return (
                f"{self.seen}, {causes}: training has learnt nothing of how they vary together; "
                "train for more steps, or at a lower training.learning_rate"
            )
        if not self.is_collapsed:
            return ""
        if self.latent.n_active:
            return f"{self.latent}, {causes}"
        if not self.latent.n_causes:
            return (
                "the latent is not used; the rows may have no common cause, and each sensor is "
                "judged by itself"
            )
        lost = f" ({self.gain})" if self.has_learnt_nothing else ""
        return (
            f"the latent is not used, {causes}: each sensor is judged by itself{lost}; try a lower "
            "training.learning_rate, a lower beta, more free_bits, or hidden: []"
        )


@dataclass(frozen=True)
class _Task:
    """Rows to learn from and to judge by, and how."""

    shape: Shape
    windows: Windows
    training: Training
    held_out: Batch
    seed: int
    checkpoint: Path | None
    on_check: Callable[[Check], None]

    def attempt(self, number: int, variant: Variant) -> Trained:
        """The member trained, and what is to be said of it."""
        with seeded(self.seed):
            module = variant.build(self.shape)
        with one_thread():
            variant.prepare(module, self.windows.spread(PREPARE_ROWS))
        history = train(
            module,
            variant.bound,
            self.windows,
            self.training,
            held_out=self.held_out,
            seed=self.seed,
            settled=variant.settled if isinstance(variant, Objective) else 0.0,
            attempt=number,
            checkpoint=self._checkpoint(number),
            on_check=self.on_check,
        )
        gain = self._gain(module, variant)
        with one_thread():
            latent = diagnosis(module, self.held_out, self.seed, count=not gain.is_clear)
            if not gain.is_clear:
                at_stake = worth(self.held_out, latent.n_causes) / self.shape.n_features
                gain = gain._replace(is_clear=at_stake < WORTH)
        return Trained(module, variant, self.training, history, latent, gain)

    def _gain(self, module: Model, variant: Variant) -> Gain:
        """What a model knows of normal held-out rows beyond each sensor by itself."""
        comparable = isinstance(variant, Objective) and is_measured_in_nats_alike(module, variant)
        normal = self.held_out.label <= 0
        if not (comparable and normal.any()):
            return Gain()
        nats = self.bounds(module)[normal]
        others = alone(self.held_out, self.windows.spread(GAIN_ROWS))[normal]
        is_clear = is_clearly_above(nats, others)
        return Gain(float(nats.median()), float(others.median()), is_clear)

    def _checkpoint(self, number: int) -> Path | None:
        if self.checkpoint is None or number == 1:
            return self.checkpoint
        return self.checkpoint.with_name(f"{self.checkpoint.name}-attempt-{number}")

    @torch.no_grad()
    def bounds(self, module: Model) -> Tensor:
        """Bound on log p(x | c) of each held-out row, whatever was maximised; (n,) nats."""
        generator = torch.Generator().manual_seed(self.seed)
        nats = []
        with one_thread():
            for block in split(self.held_out, BOUND_BLOCK):
                shape = (BOUND_SAMPLES, len(block.x), module.noise_dim)
                noise = standard_normal(shape, generator)
                nats.append(module.log_weights(block, noise).double().mean(dim=0))
        return torch.cat(nats)


def train_attempts(
    variant: Variant,
    shape: Shape,
    windows: Windows,
    training: Training,
    *,
    held_out: Batch,
    seed: int,
    remedied: bool = True,
    checkpoint: Path | None = None,
    on_check: Callable[[Check], None] = lambda check: None,
) -> Trained:
    """Train a member; where it is not well, again with each remedy until one helps.

    It is not well if its latent collapses, or if its bound on log p(x | c) of held-out rows is not
    above that of each sensor judged by itself although the sensors vary together. An attempt is
    kept if the bound is clearly higher, and, after a collapse, more latents are active: a latent
    that the rows have no use for is not forced upon them.

    Parameters
    ----------
    variant : Variant
    shape : Shape
        Of the rows.
    windows, training, held_out, seed, checkpoint, on_check
        As `train` has them; each further attempt has a checkpoint of its own beside the first.
    remedied : bool
        False trains once, as said, and no more.

    Returns
    -------
    Trained

    Raises
    ------
    TrainingError
        Training cannot go on.

    References
    ----------
    Collapse: Bowman et al. (2016), Generating Sentences from a Continuous Space. Free bits: Kingma
    et al. (2016), Improved Variational Inference with Inverse Autoregressive Flow, appendix C.8.
    """
    task = _Task(shape, windows, training, held_out, seed, checkpoint, on_check)
    kept = task.attempt(1, variant)
    if not remedied:
        return kept
    if kept.is_unwell and not isinstance(variant, Objective):
        done = "this member of the family has no remedy, and is left as it is"
        return kept.told([_said(Event(kept.last_step, kept.seen, done))])
    if isinstance(variant, Objective):
        for number, remedy in enumerate(remedies(variant, training), start=2):
            if not kept.is_unwell or (remedy.is_last and kept.latent.n_active):
                break
            retry = replace(task, training=remedy.training)
            kept = _again(retry, kept, number, remedy.name, remedy.variant)
    return kept


def _again(task: _Task, kept: Trained, number: int, name: str, changed: Variant) -> Trained:
    """One attempt more; the better one, with what happened in its history."""
    try:
        tried = task.attempt(number, changed)
    except TrainingError as error:
        failed = Event(kept.last_step, kept.seen, f"trained again with {name}, in vain: {error}")
        return kept.told([_said(failed)])
    before, after = task.bounds(kept.module), task.bounds(tried.module)
    gain = after - before
    is_clear = float(gain.mean()) > CLEARLY * float(gain.std()) / math.sqrt(len(gain))
    is_more = tried.latent.n_active > kept.latent.n_active or kept.has_learnt_nothing
    is_better = is_clear and is_more
    done = (
        f"trained again with {name}: {tried.latent.n_active} active, and a bound of "
        f"{after.mean():.4g} instead of {before.mean():.4g} nats a row; "
        f"{'this one is kept' if is_better else 'the one before is kept'}"
    )
    event = _said(Event(kept.last_step, kept.seen, done, kept.history.attempt))
    better, other = (tried, kept) if is_better else (kept, tried)
    events = [*kept.history.events, event, *tried.history.events]
    checks = (*kept.history.others, *other.history.checks)
    return replace(better, history=replace(better.history, events=tuple(events), others=checks))


def _said(event: Event) -> Event:
    """The event, which the log has now."""
    logger.warning("training, %s", event)
    return event
