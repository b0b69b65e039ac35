"""The scorer: raw rows in, anomaly scores and contributions out.

Everything between a reading and its score is one module: standardiser, windows, network, score,
smoothing. It draws nothing, and a row's score is the same to the last bit however the rows are
split, so flow, command line, package and estimator cannot drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from vae_anomaly.errors import InputError
from vae_anomaly.models.classes import ClassVAE
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch, Standardizer, windowed
from vae_anomaly.models.training import one_thread
from vae_anomaly.models.vae import Model
from vae_anomaly.models.variants import Variant, variant_name
from vae_anomaly.scoring.bands import ExpectedBand, expected_band
from vae_anomaly.scoring.baselines import SIMPLE, Baseline, Simple
from vae_anomaly.scoring.blocks import BLOCK_ROWS, Block, blocks
from vae_anomaly.scoring.label_head import LabelHead
from vae_anomaly.scoring.scores import SCORES, score_name, spread
from vae_anomaly.scoring.scores.score import read
from vae_anomaly.scoring.smoothing import (
    Smoothing,
    ewma,
    multiscale,
    multiscale_error,
    smoothing_context,
)

__all__ = ["BLOCK_ROWS", "Scorer", "left_context", "refuse_misfits", "row_shape"]


class Scorer(nn.Module):
    """Raw rows to anomaly scores, with windows and smoothing inside; draws nothing.

    Parameters
    ----------
    standardizer : Standardizer
    module : Model
        Trained on windows of standardised active sensors, (n, window * n_active).
    variant : Variant or Simple
        What the module was built from; of a baseline its name, and the module is `NoLatents`.
    anomaly_score : str
        A name in `SCORES`, or "auto".
    tensors : mapping of str to Tensor
        What the score was fitted to.
    window : int
        Rows that are judged together: a row and those before it.
    smoothing : float, "auto" or None
        Rate of the EWMA of the score; "auto" takes the largest of several EWMAs of the score in
        standard deviations of normal rows (see `standardize_scores`); None leaves it as it is.
    levels : tuple of int
        Of each sensor, how many levels its code has; empty: all are numbers.
    n_classes : int
        The highest class of the labels that the module learnt from.

    Attributes
    ----------
    head : LabelHead or None
        What labels add to the score, see `labelled.tell`; None adds nothing.
    """

    def __init__(
        self,
        standardizer: Standardizer,
        module: Model,
        *,
        variant: Variant | Simple,
        anomaly_score: str = "auto",
        tensors: Mapping[str, Tensor] | None = None,
        window: int = 1,
        smoothing: Smoothing = None,
        levels: tuple[int, ...] = (),
        n_classes: int = 0,
    ) -> None:
        super().__init__()
        self.left_context = left_context(window, smoothing)
        self.standardizer, self.module, self.variant = standardizer, module, variant
        self.baseline: Baseline | None = None
        if isinstance(variant, Simple):
            self.baseline, self.anomaly_score = SIMPLE[variant.name], variant.name
        else:
            self.anomaly_score = score_name(anomaly_score, variant.default_score)
        self.window, self.smoothing = window, smoothing
        self.levels, self.n_classes = levels, n_classes
        self.head: LabelHead | None = None
        self.tensors = nn.Module()
        for name, tensor in (tensors or {}).items():
            self.tensors.register_buffer(name, tensor)
        self.register_buffer("of_change", torch.zeros(()))
        if smoothing == "auto":
            self.register_buffer("normal_mean", torch.zeros(standardizer.n_features))
            self.register_buffer("normal_sd", torch.ones(()))
        self.eval()

    @one_thread()
    @torch.no_grad()
    def forward(self, rows: Tensor, run: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly scores, and what each sensor contributes.

        Parameters
        ----------
        rows : Tensor of shape (n, d + c)
            Raw rows in time order within each series; NaN = missing; float64. Scores are complete
            from the row on that has `left_context` rows of its series before it.
        run : Tensor of shape (n,)
            How many rows of the same series stand directly before each; int64.

        Returns
        -------
        score : Tensor of shape (n,)
            Higher is more anomalous; float32.
        contributions : Tensor of shape (n, d)
            Sum to the score; float32. 0 for sensors that are missing, and for one that never varied
            in training, unless it has changed: then what `weigh_changes` says.
            With smoothing those of the rows before count too, and with "auto" a sensor contributes
            by how far it is above its mean in normal rows, so that a missing one is below it.

        Raises
        ------
        InputError
            The shapes or types are wrong, or a run reaches beyond the first row.
        """
        score = torch.zeros(len(rows))
        contributions = torch.zeros(len(rows), self.standardizer.n_features)
        sensors = self.standardizer.sensors
        for at, own, block in self._blocks(rows, run):
            total, parts = self._scored(block)
            parts = parts.reshape(BLOCK_ROWS, self.window, -1).sum(dim=1)  # a share of a sensor
            score[at] = total[own]
            contributions[at].index_copy_(1, sensors, parts[own])
        return self._finished(score, contributions, rows, run)

    def differentiable(self, rows: Tensor, run: Tensor) -> Tensor:
        """Scores (n,) as of `forward`, but for the last bits, through which gradients flow to rows.

        Parameters
        ----------
        rows, run : Tensor
            As for `forward`.
        """
        batch, n = self.standardizer(rows), len(rows)
        total, parts = self._scored(windowed(batch, run, torch.arange(n), self.window))
        parts = parts.reshape(n, self.window, -1).sum(dim=1)
        contributions = parts.new_zeros(n, self.standardizer.n_features)
        contributions = contributions.index_copy(1, self.standardizer.sensors, parts)
        return self._finished(total, contributions, rows, run)[0]

    def _finished(
        self, score: Tensor, contributions: Tensor, rows: Tensor, run: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores (n,) and contributions (n, d) with what changed constants add, and smoothed."""
        changed, of_change = self.standardizer.changed(rows), self.get_buffer("of_change")
        score = score + changed.sum(dim=1) * of_change
        contributions.index_copy_(1, self.standardizer.constants, changed * of_change)
        return self._smoothed(score, contributions, run)

    @one_thread()
    @torch.no_grad()
    def expected(self, rows: Tensor, run: Tensor) -> Tensor:
        """What the model expects each sensor to read, in its own unit.

        Parameters
        ----------
        rows, run : Tensor
            As for `forward`.

        Returns
        -------
        Tensor of shape (n, d)
            Float64; a sensor that never varied in training is expected at its constant, and one
            that was never observed is NaN.
        """
        width = len(self.standardizer.sensors)
        means = torch.zeros(len(rows), width)
        for at, own, block in self._blocks(rows, run):
            means[at] = self._mean(block)[own, -width:]  # the row's own
        return self.standardizer.restored(means)

    @one_thread()
    @torch.no_grad()
    def embed(self, rows: Tensor, run: Tensor) -> Tensor:
        """The latents that stand for each row, (n, k): posterior means, or codes; float32.

        Parameters
        ----------
        rows, run : Tensor
            As for `forward`.
        """
        parts = [self.module.embed(block)[own] for _, own, block in self._blocks(rows, run)]
        return torch.cat(parts) if parts else torch.zeros(0, 0)

    @one_thread()
    @torch.no_grad()
    def expected_band(self, rows: Tensor, run: Tensor) -> ExpectedBand:
        """What the model expects each sensor to read, and the standard deviation around it.

        It is how a second reading in the same state would scatter: observation noise, and what the
        row leaves open of its state. The row's own readings lie closer, for the model has seen
        them; one that is missing, as wide as said.

        Parameters
        ----------
        rows, run : Tensor
            As for `forward`.

        Returns
        -------
        ExpectedBand
            `expected` as of the method of that name and `sigma`, (n, d) float64 in each sensor's
            own unit; sigma is 0 for sensors that never varied and for codes, which have no unit.
        """
        width = len(self.standardizer.sensors)
        means, sigmas = torch.zeros(len(rows), width), torch.zeros(len(rows), width)
        for at, own, block in self._blocks(rows, run):
            band = expected_band(self.module, block)
            means[at] = band.expected[own, -width:]  # the row's own
            sigmas[at] = band.sigma[own, -width:]
        return self.restored_band(ExpectedBand(means, sigmas))

    def restored_band(self, band: ExpectedBand) -> ExpectedBand:
        """A standardised band of the active sensors (n, d_active) in all sensors' own units."""
        sensors, n = self.standardizer.sensors, len(band.sigma)
        sigma = torch.zeros(n, self.standardizer.n_features, dtype=torch.float64)
        own = band.sigma.double() * self.standardizer.scale[sensors]
        sigma = sigma.index_copy(1, sensors, own)
        if self.levels:
            sigma = sigma.masked_fill(torch.tensor(self.levels) > 0, 0.0)
        return ExpectedBand(self.standardizer.restored(band.expected), sigma)

    @one_thread()
    @torch.no_grad()
    def standard_error(self, rows: Tensor, run: Tensor) -> Tensor:
        """How far each score may be off because it is estimated from samples, (n,) float32.

        One standard deviation, in the unit of the score; 0 where the score draws none. All rows
        share their noise, so the error of a smoothed score is at most the smoothed one, which is
        what is given.

        Parameters
        ----------
        rows, run : Tensor
            As for `forward`.
        """
        error = torch.zeros(len(rows))
        if self.baseline is not None:
            return error
        error_of, tensors = SCORES[self.anomaly_score].error, dict(self.tensors.named_buffers())
        for at, own, block in self._blocks(rows, run):
            error[at] = error_of(self.module, block, tensors)[own]
        if self.head is not None:  # which draws nothing
            error = error / self.head.score_spread.float()
        if self.smoothing is None:
            return error
        if self.smoothing == "auto":
            return multiscale_error(error / self.get_buffer("normal_sd"), run)
        return ewma(error, run, self.smoothing)

    @one_thread()
    @torch.no_grad()
    def class_probabilities(self, rows: Tensor, run: Tensor) -> Tensor:
        """Probability of each class, as members that learn from labels tell them.

        Parameters
        ----------
        rows, run : Tensor
            As for `forward`; no class is smoothed.

        Returns
        -------
        Tensor of shape (n, K)
            Normal first, then labels 1, 2, ...; 0 for those that no training row bore; float32.

        Raises
        ------
        InputError
            The member knows no classes.
        """
        if not isinstance(self.module, ClassVAE):
            raise InputError(f"{self.called} knows no classes; train semi_supervised")
        probabilities = torch.zeros(len(rows), self.module.n_faults + 1)
        for at, own, block in self._blocks(rows, run):
            probabilities[at] = self.module.class_probabilities(block)[own]
        return probabilities

    @property
    def called(self) -> str:
        """The member of the family, or the baseline, in words."""
        if isinstance(self.variant, Simple):
            return f"baseline {self.variant.name}"
        return f"variant {variant_name(self.variant)}"

    @one_thread()
    @torch.no_grad()
    def standardize_scores(self, normal: Batch) -> None:
        """Fit what `smoothing="auto"` measures scores by: their level and spread in normal rows.

        Each sensor's mean contribution (d,) and the standard deviation of the score, which travel
        with the scorer as its tensors do.

        Parameters
        ----------
        normal : Batch
            Standardised windows (n, window * n_active) that the weights have not been fitted to.
        """
        score, parts = self._scored(normal)
        of_sensors = parts.reshape(len(score), self.window, -1).sum(dim=1).mean(dim=0)
        mean, sd = self.get_buffer("normal_mean"), self.get_buffer("normal_sd")
        mean.index_copy_(0, self.standardizer.sensors, of_sensors)
        sd.copy_(spread(score))

    def weigh_changes(self, n_rows: int) -> None:
        """Fit what a sensor adds that read the same in n rows and then has changed: 2 ln(n + 2).

        It is the deviance, -2 log p, of what has not happened in n rows: by the rule of succession
        its probability is 1 / (n + 2) (Laplace 1814, Essai philosophique sur les probabilités).
        """
        self.get_buffer("of_change").fill_(2 * math.log(n_rows + 2))

    def expect_changes(self, n_rows: int) -> None:
        """Fit what `smoothing="auto"` measures scores by where they say nothing but changes.

        Rows that have none do not tell how rare they are: the rule of succession does.
        """
        constants = self.standardizer.constants
        of_change, p = self.get_buffer("of_change"), 1 / (n_rows + 2)
        self.get_buffer("normal_mean")[constants] = of_change * p
        self.get_buffer("normal_sd").copy_(of_change * math.sqrt(len(constants) * p * (1 - p)))

    def measured_as(self, other: Scorer) -> Scorer:
        """Itself, with the level and spread of normal scores that another scorer has learnt."""
        if self.smoothing == "auto":
            for name in ("normal_mean", "normal_sd"):
                self.get_buffer(name).copy_(other.get_buffer(name))
        return self

    def _scored(self, block: Batch) -> tuple[Tensor, Tensor]:
        """Score (n,) and contributions (n, D) of a block of windows."""
        score, parts = self.unlabelled(block)
        if self.head is None:
            return score, parts
        told: tuple[Tensor, Tensor] = self.head(read(self.module, block), block, score, parts)
        return told

    def unlabelled(self, block: Batch) -> tuple[Tensor, Tensor]:
        """Score (n,) and contributions (n, D) of windows without what labels add."""
        tensors = dict(self.tensors.named_buffers())
        if self.baseline is None:
            return SCORES[self.anomaly_score].score(self.module, block, tensors)
        parts = self.baseline.contributions(block, tensors)  # float64
        return parts.sum(dim=-1).float(), parts.float()

    def _mean(self, block: Batch) -> Tensor:
        """What is expected of each entry of a block of windows, (n, D) standardised."""
        if self.baseline is None:
            return self.module.likelihood(self.module.embed(block), block.context).mean
        return self.baseline.expected(block, dict(self.tensors.named_buffers())).float()

    def _smoothed(self, score: Tensor, parts: Tensor, run: Tensor) -> tuple[Tensor, Tensor]:
        if self.smoothing is None:
            return score, parts
        if self.smoothing == "auto":
            mean, sd = self.get_buffer("normal_mean"), self.get_buffer("normal_sd")
            return multiscale((score - mean.sum()) / sd, (parts - mean) / sd, run)
        return ewma(score, run, self.smoothing), ewma(parts, run, self.smoothing)

    def _blocks(self, rows: Tensor, run: Tensor) -> Iterator[Block]:
        refuse_misfits(rows, run, len(self.standardizer.center))
        return blocks(rows, run, self.standardizer, self.window)


def left_context(window: int, smoothing: Smoothing) -> int:
    """Rows that must stand before a row for its score to be complete.

    Raises
    ------
    InputError
        The window is below 1, or the smoothing is not a rate in (0, 1], "auto" or None.

    Examples
    --------
    >>> left_context(10, None)
    9
    >>> left_context(10, 0.2)
    72
    >>> left_context(3, "auto")
    257
    """
    if window < 1:
        raise InputError(f"window={window} must be at least 1, the row itself")
    return window - 1 + smoothing_context(smoothing)


def refuse_misfits(rows: Tensor, run: Tensor, n_columns: int) -> None:
    """Raise an InputError where raw rows and their runs have the wrong shapes or types."""
    if rows.dim() != 2 or rows.shape[1] != n_columns or rows.dtype != torch.float64:
        raise InputError(
            f"rows of shape {tuple(rows.shape)} and type {rows.dtype}; "
            f"give float64 of shape (n, {n_columns}): sensors, then context"
        )
    if run.shape != rows.shape[:1] or run.dtype != torch.int64:
        raise InputError(
            f"run of shape {tuple(run.shape)} and type {run.dtype}; give int64 ({len(rows)},)"
        )
    if bool(((run < 0) | (run > torch.arange(len(run)))).any()):
        raise InputError("run counts rows that do not stand before the row; the first has 0")


def row_shape(
    standardizer: Standardizer, window: int, levels: tuple[int, ...], n_classes: int
) -> Shape:
    """What the networks must know of the rows: of their active sensors."""
    sensors = standardizer.sensors.tolist()
    active_levels = tuple(levels[sensor] for sensor in sensors) if levels else ()
    return Shape(len(sensors), standardizer.n_context, window, active_levels, n_classes)
