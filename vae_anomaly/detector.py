"""VAEDetector: the scikit-learn face of the library, its signs and names and nothing else.

scikit-learn says that higher is *more normal*: `VAEDetector.score_samples` alone flips the sign of
the library's score.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from numbers import Integral
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    check_random_state,
    validate_data,
)

from vae_anomaly.config import Labels, Training, window_rows
from vae_anomaly.decisions.reference import clear_of_anomalies
from vae_anomaly.decisions.thresholds import calibrate, rows_needed, supported_false_alarm_rate
from vae_anomaly.errors import InputError
from vae_anomaly.latent.augmented import fit_augmented
from vae_anomaly.models.standardize import Batch, Series
from vae_anomaly.models.training import History
from vae_anomaly.models.variants import Variant, variant_of
from vae_anomaly.scoring.columns import Column
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.labelled import NormalRows, anomalies_of, normal_rows, takes_labels, tell
from vae_anomaly.scoring.scorer import Scorer

__all__ = ["VAEDetector"]

logger = logging.getLogger(__name__)

#: Shares of the normal rows that stop the training and that set the threshold; the rest trains.
STOP, CALIBRATE = 0.1, 0.2

#: Share that stops the training in a table: a tenth of a hundred rows would choose the weights by
#: chance. On the mean of ADBench it makes no difference.
TABLE_STOP = 0.16

#: Levels that a categorical column may have.
MOST_LEVELS = 1000

#: Rows without which no part of them could train, stop and calibrate.
LEAST_ROWS = 5


class VAEDetector(OutlierMixin, BaseEstimator):
    """Anomaly detector by a variational autoencoder.

    Parameters
    ----------
    variant : str or Variant, default="gaussian"
        Member of the family: a name in ``VARIANTS``, or its settings, such as
        ``Gaussian(latent_dim=4)``.
    window : int or "auto", default=1
        Rows that are judged together; more than 1 makes the rows a series in time order, and so
        does "auto", which is 3.
    smoothing : float, "auto" or None, default=None
        Rate of the EWMA of the score, in (0, 1], or "auto": the largest of several EWMAs, from the
        row itself to some sixty rows. Makes the rows a series likewise.
    anomaly_score : str, default="auto"
        A name in ``SCORES``; "auto" is "fused" in a table, and the variant's own in a series, of
        images, and where context explains the rows.
    context : sequence of str or int, default=()
        Columns that explain and are not themselves judged: names of a DataFrame, or positions.
    categorical : sequence of str or int, default=()
        Columns of codes 0, 1, ... for variant "mixed", named likewise; a code that training did not
        have is one more level, which is improbable.
    false_alarm_rate : float, default=0.01
        Share of normal rows that `predict` may call anomalous.
    labels : {"default", "strict", "off"}, default="default"
        What labelled anomalies add to the score: what is like them is lifted, and what is not is
        lowered a little; "strict" lifts alone, for labels that cover only some kinds or may be
        wrong. ``semi_supervised`` learns from labels in training, and this is not for it.
    training : Training, optional
        Settings of the training loop.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, noise and splits.

    Attributes
    ----------
    scorer_ : Scorer
        From raw rows to scores, as it is packaged and served.
    threshold_ : Threshold
        Conformal threshold of the score, on rows that the weights have not seen.
    offset_ : float
        Minus the threshold: ``decision_function(X) = score_samples(X) - offset_``.
    supported_false_alarm_rate_ : float
        The rate of `threshold_`; above `false_alarm_rate` where the rows were too few for it.
    history_ : History
        Bounds at each check of the training, and what the training doctor saw and did.
    notes_ : tuple of str
        What one should know of the columns, of the training and of the latent; also logged.
    n_features_in_ : int
    feature_names_in_ : ndarray of str

    Notes
    -----
    In a table rows are split by chance: 64 % train, 16 % stop the training, 20 % set the threshold,
    which neither weights nor score have seen. With a window or smoothing rows are a series, and
    are split in time order within each group: 70 %, 10 %, 20 %. On a few hundred rows the
    distance to the nearest normal row is often as good, and simpler.

    References
    ----------
    Kingma & Welling (2014), Auto-Encoding Variational Bayes.
    Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World, ch. 2.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> load = rng.normal(size=(600, 1))
    >>> X = load @ [[1.0, 2.0, -1.0]] + 0.1 * rng.normal(size=(600, 3))
    >>> detector = VAEDetector(random_state=0).fit(X)
    >>> detector.predict([[1.0, 2.0, -1.0], [1.0, -2.0, -1.0]])
    array([ 1, -1])
    """

    def __init__(  # noqa: PLR0913 (scikit-learn wants every setting here by its name)
        self,
        variant: str | Variant = "gaussian",
        *,
        window: int | Literal["auto"] = 1,
        smoothing: float | Literal["auto"] | None = None,
        anomaly_score: str = "auto",
        context: Sequence[str | int] = (),
        categorical: Sequence[str | int] = (),
        false_alarm_rate: float = 0.01,
        labels: Labels = "default",
        training: Training | None = None,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.variant = variant
        self.window = window
        self.smoothing = smoothing
        self.anomaly_score = anomaly_score
        self.context = context
        self.categorical = categorical
        self.false_alarm_rate = false_alarm_rate
        self.labels = labels
        self.training = training
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike | None = None, *, groups: ArrayLike | None = None
    ) -> VAEDetector:
        """Learn what normal rows look like, and set the threshold.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_rows, n_features)
            NaN = missing. Rows of a series in time order.
        y : array-like of shape (n_rows,), optional
            0 normal, positive an anomaly (its class), negative unknown. Networks are not trained on
            anomalies, but by variants that learn from labels (``semi_supervised``); a linear head
            learns from them what to lift, see `labels`. Without y, or with fewer than 5 rows that
            are not anomalies, a warning says that every row counts as normal.
        groups : array-like of shape (n_rows,), optional
            Separates series, such as machines; by default all rows are one series.

        Returns
        -------
        VAEDetector
            Itself.

        Raises
        ------
        ValueError
            The rows are too few, or an argument is wrong.
        """
        rows = validate_data(
            self, X, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=2
        )
        label = self._labels(y, len(rows))
        if self.window != "auto" and not isinstance(self.window, Integral):
            raise InputError(f"window={self.window!r} must be a whole number of rows, or 'auto'")
        variant = variant_of(self.variant, {}) if isinstance(self.variant, str) else self.variant
        tells = takes_labels(variant, self.labels)
        self._learn_levels(rows, variant)
        order = _series_order(groups, len(rows))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        series = self._series(rows[order.rows], order.run, label[order.rows])
        part = _parts(
            series.label.numpy(),
            order,
            seed,
            is_series=self._is_series,
            learns_labels=variant.learns_labels,
        )
        train, stop = (_only(series, part == number) for number in (0, 1))
        fit = partial(
            fit_scorer,
            n_context=len(self._context_columns()),
            variant=variant,
            levels=tuple(n for i, n in enumerate(self._levels) if i not in self._context_columns()),
            training=self.training or Training(),
            anomaly_score=self._score_name(variant),
            window=window_rows(self.window),
            smoothing=self.smoothing,
            columns=self._titles(),
            seed=seed,
        )
        share = (self.training or Training()).augment
        fitted = fit_augmented(
            train, stop, lambda rows, _: fit(rows, stop), share=share, seed=seed
        ).fitted
        self.scorer_: Scorer = fitted.scorer
        self.history_: History = fitted.history
        self.notes_: tuple[str, ...] = fitted.notes
        held, self._told = self._held(series, part), ""
        calibration = _with_context(series, held, fitted.scorer.left_context)
        self._kept: _Kept | None = None
        if tells:
            normal = normal_rows(fitted.scorer, train=train, stop=stop)
            self._kept = _Kept(normal, calibration)
            if len((anomalies := anomalies_of(fitted.scorer, series)).x):
                self._tell(normal, anomalies)
        for note in self.notes_:
            logger.warning(note)
        self._set_threshold(calibration)
        return self

    def learn_labels(
        self, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None
    ) -> VAEDetector:
        """Learn from labelled anomalies that are known only after `fit`; the networks stay.

        The head is fitted anew to these labels alone, so give those of `fit` again, and the
        threshold is set anew on the normal rows of `fit` that set it. For this the estimator keeps
        2,000 normal rows that the head learns from, and those that set the threshold.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_rows, n_features)
            Rows with an anomaly among them; with a window, the rows before it too.
        y : array-like of shape (n_rows,)
            Positive an anomaly; nothing is learnt of the others.
        groups : array-like of shape (n_rows,), optional
            As for `fit`.

        Returns
        -------
        VAEDetector
            Itself.

        Raises
        ------
        ValueError
            No row bears the label of an anomaly, or the detector learns from no labels so.
        """
        order, series = self._ordered(X, groups)
        if self._kept is None:
            raise InputError(
                f"{self.scorer_.called} with labels={self.labels!r} learns no labels after fit: "
                "fit again with them, or with labels='default' or 'strict'"
            )
        label = _as_labels(y, len(order.rows))[order.rows]
        series = series._replace(label=torch.from_numpy(label))
        self._tell(self._kept.normal, anomalies_of(self.scorer_, series))
        logger.warning(self.notes_[-1])
        self._set_threshold(self._kept.calibration)
        return self

    def score_samples(
        self, X: ArrayLike, *, groups: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Normality of each row, (n_rows,): minus the anomaly score, so higher is more normal.

        Each row is scored with the rows of its series that stand before it in X.
        """
        return -self._scored(X, groups).score

    def decision_function(
        self, X: ArrayLike, *, groups: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Normality of each row above the threshold's, (n_rows,); negative is anomalous."""
        return self.score_samples(X, groups=groups) - self.offset_

    def predict(self, X: ArrayLike, *, groups: ArrayLike | None = None) -> NDArray[np.int64]:
        """1 for each normal row, −1 for each anomalous one, (n_rows,)."""
        is_normal = self.decision_function(X, groups=groups) >= 0
        return np.where(is_normal, 1, -1)

    def contributions(
        self, X: ArrayLike, *, groups: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """What each judged column contributes to the anomaly score of each row.

        Returns
        -------
        ndarray of shape (n_rows, n_sensors)
            Columns of X in their order, without the context; a row sums to its anomaly score.
        """
        return self._scored(X, groups).contributions

    def class_probabilities(
        self, X: ArrayLike, *, groups: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Probability of each class: normal, then labels 1, 2, ... of y.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Rows sum to 1; 0 for labels that no training row bore.

        Raises
        ------
        ValueError
            The variant does not learn from labels.
        """
        order, series = self._ordered(X, groups)
        found = self.scorer_.class_probabilities(series.rows, series.run)
        return found.numpy().astype(np.float64)[np.argsort(order.rows)]

    # ------------------------------------------------------------------------------------------

    def _tell(self, normal: NormalRows, anomalies: Batch) -> None:
        """Fit a label head, and say in the notes what it is worth."""
        found = tell(self.scorer_, normal, anomalies, self.labels)
        self.scorer_ = found.scorer
        self.notes_ = (*(note for note in self.notes_ if note != self._told), found.note)
        self._told = found.note

    def _scored(self, X: ArrayLike, groups: ArrayLike | None) -> _Scored:
        order, series = self._ordered(X, groups)
        found = _score(self.scorer_, series)
        back = np.argsort(order.rows)
        return _Scored(found.score[back], found.contributions[back])

    def _ordered(self, X: ArrayLike, groups: ArrayLike | None) -> tuple[_Order, Series]:
        """The order that keeps each series together, and the rows in it."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        order = _series_order(groups, len(rows))
        unknown = np.zeros(len(rows), np.int64)
        return order, self._series(rows[order.rows], order.run, unknown)

    def _series(
        self, rows: NDArray[np.float64], run: NDArray[np.int64], label: NDArray[np.int64]
    ) -> Series:
        """Rows with the sensors first, then the context."""
        context = self._context_columns()
        sensors = [i for i in range(rows.shape[1]) if i not in context]
        columns = np.ascontiguousarray(rows[:, [*sensors, *context]])
        for at, n_levels in enumerate(self._levels[i] for i in sensors):
            if n_levels:
                columns[:, at] = _codes(columns[:, at]).clip(max=n_levels - 1)
        return Series(*(torch.from_numpy(array) for array in (columns, run, label)))

    def _learn_levels(self, rows: NDArray[np.float64], variant: Variant) -> None:
        """Levels of each column of X, one more than training has; 0 of a number."""
        codes = self._columns(self.categorical, "categorical")
        if codes and not variant.knows_levels:
            raise InputError(
                f"categorical={tuple(self.categorical)!r} needs a variant that knows levels; "
                "set variant='mixed', or leave it out"
            )
        if both := set(codes) & set(self._context_columns()):
            raise InputError(
                f"column {min(both)} of X is categorical and context; context columns are numbers: "
                "give one column a level"
            )
        self._levels = [0] * rows.shape[1]
        for column in codes:
            self._levels[column] = int(np.nanmax(_codes(rows[:, column]), initial=-1)) + 2

    def _context_columns(self) -> list[int]:
        columns = self._columns(self.context, "context")
        if len(columns) == self.n_features_in_:
            raise InputError(f"context={tuple(self.context)!r} leaves no column to judge")
        return columns

    def _titles(self) -> tuple[Column, ...]:
        """What the notes call each column of X, sensors first, then the context."""
        context = self._context_columns()
        names = list(getattr(self, "feature_names_in_", range(self.n_features_in_)))
        order = [*(i for i in range(len(names)) if i not in context), *context]
        return tuple(Column(f"column {names[i]!r}") for i in order)

    def _columns(self, entries: Sequence[str | int], what: str) -> list[int]:
        """Positions of the columns that an argument names."""
        names = list(getattr(self, "feature_names_in_", []))
        columns = []
        for entry in entries:
            if isinstance(entry, str) and entry in names:
                columns.append(names.index(entry))
            elif not isinstance(entry, str) and 0 <= entry < self.n_features_in_:
                columns.append(int(entry))
            else:
                raise InputError(
                    f"{what} column {entry!r} is not in X; it has "
                    + (", ".join(names) if names else f"columns 0 to {self.n_features_in_ - 1}")
                )
        if len(set(columns)) < len(columns):
            raise InputError(f"{what}={tuple(entries)!r} names a column twice")
        return columns

    @property
    def _is_series(self) -> bool:
        return self.window != 1 or self.smoothing is not None

    def _score_name(self, variant: Variant) -> str:
        is_table = not self._is_series and not self.context
        return (
            variant.table_score if self.anomaly_score == "auto" and is_table else self.anomaly_score
        )

    def _labels(self, y: ArrayLike | None, n_rows: int) -> NDArray[np.int64]:
        if y is None:
            return np.zeros(n_rows, np.int64)
        label = _as_labels(y, n_rows)
        if (n_normal := int((label <= 0).sum())) >= LEAST_ROWS:
            return label
        warnings.warn(
            f"y calls {n_normal} of {n_rows} rows normal (zero) or unknown (negative), too few to "
            "learn what is normal; y is left aside and every row counts as normal",
            UserWarning,
            stacklevel=3,
        )
        return np.full(n_rows, -1)

    def _held(self, series: Series, part: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Normal rows (n,) to set the threshold on, those that remember an anomaly left out."""
        label, reach = series.label.numpy(), self.scorer_.left_context
        held: NDArray[np.bool_] = (part == 2) & (label <= 0)
        if not held.any():
            raise InputError(
                "no normal row is left to set the threshold on: with a window or smoothing it is "
                f"the last {CALIBRATE:.0%} of each series; end the series with normal rows"
            )
        if not self._is_series:
            return held
        clear = held & clear_of_anomalies(label, series.run.numpy(), reach)
        if clear.any():
            return clear
        warnings.warn(
            f"every normal row of the last {CALIBRATE:.0%} of each series has a labelled anomaly "
            f"among the {reach} rows that its score looks back on; the threshold is set on them, "
            "and too high: end the series with more normal rows",
            UserWarning,
            stacklevel=3,
        )
        return held

    def _set_threshold(self, calibration: _Calibration) -> None:
        rate = self.false_alarm_rate
        normal = _score(self.scorer_, calibration.series).score[calibration.held]
        if not 0 < rate < 1:
            raise InputError(f"false_alarm_rate={rate} must lie between 0 and 1")
        if len(normal) < rows_needed(rate):
            rate = supported_false_alarm_rate(len(normal))
            warnings.warn(
                f"{len(normal)} calibration rows support a false alarm rate of {rate:.3g}, not "
                f"{self.false_alarm_rate:g}, which needs {rows_needed(self.false_alarm_rate)}; "
                "fit on more rows",
                UserWarning,
                stacklevel=3,
            )
        found = calibrate(
            normal, np.zeros(len(normal), np.int64), rule="conformal", false_alarm_rate=rate
        )
        self.threshold_ = found.threshold
        self.supported_false_alarm_rate_ = rate
        self.offset_ = -found.threshold.value

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _as_labels(y: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    """Labels of rows as whole numbers, (n_rows,)."""
    given = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y").reshape(-1)
    check_consistent_length(given, range(n_rows))
    away = np.where(given > 0, np.ceil(given), np.floor(given))  # 0.5 is an anomaly too
    label: NDArray[np.int64] = away.astype(np.int64)
    return label


def _codes(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """A column of codes, NaN where missing."""
    known = column[~np.isnan(column)]
    if ((known < 0) | (known != np.floor(known)) | (known >= MOST_LEVELS)).any():
        raise InputError(
            f"a categorical column holds {known.min():g} to {known.max():g}; its codes are whole "
            f"numbers from 0 to {MOST_LEVELS - 1}, such as scikit-learn's OrdinalEncoder gives"
        )
    return column


class _Scored(NamedTuple):
    """Anomaly score (n,) and contributions (n, d)."""

    score: NDArray[np.float64]
    contributions: NDArray[np.float64]


class _Calibration(NamedTuple):
    """Rows that set a threshold, which of them do (n,), and those before that their scores need."""

    series: Series
    held: NDArray[np.bool_]


class _Kept(NamedTuple):
    """What labels that come after fit need: normal rows, and those that set the threshold."""

    normal: NormalRows
    calibration: _Calibration


def _with_context(series: Series, held: NDArray[np.bool_], reach: int) -> _Calibration:
    """The held rows (n,) of a series, and as many rows before each as their scores look back on."""
    at, run = np.flatnonzero(held), series.run.numpy()
    steps = np.zeros(len(held) + 1, np.int64)
    np.add.at(steps, at - np.minimum(run[at], reach), 1)
    np.add.at(steps, at + 1, -1)
    needed = np.cumsum(steps[:-1]) > 0
    return _Calibration(_only(series, needed), held[needed])


class _Order(NamedTuple):
    """Rows with each series together (n,), and how many of its own stand before each (n,)."""

    rows: NDArray[np.int64]
    run: NDArray[np.int64]


def _series_order(groups: ArrayLike | None, n_rows: int) -> _Order:
    if groups is None:
        return _Order(np.arange(n_rows), np.arange(n_rows))
    names = np.asarray([str(name) for name in np.asarray(groups, dtype=object).ravel()])
    if names.shape != (n_rows,):
        raise InputError(f"groups has shape {names.shape}; give one entry a row, ({n_rows},)")
    _, code = np.unique(names, return_inverse=True)
    rows = np.argsort(code, kind="stable")
    at = np.arange(n_rows)
    starts = np.diff(code[rows], prepend=-1) != 0
    return _Order(rows, at - np.maximum.accumulate(np.where(starts, at, 0)))


def _parts(
    label: NDArray[np.int64], order: _Order, seed: int, *, is_series: bool, learns_labels: bool
) -> NDArray[np.int64]:
    """(n,) 0 trains, 1 stops, 2 calibrates; −1 is none of them.

    In a table, that is what anomalies are, unless labels are learnt: then they train and stop.
    """
    n = len(label)
    part = np.full(n, -1)
    if not is_series:
        rng = np.random.default_rng(seed)
        normal = rng.permutation(np.flatnonzero(label <= 0))
        part[normal] = _shares(len(normal), TABLE_STOP)
        for kind in np.unique(label[label > 0]) if learns_labels else ():
            own = rng.permutation(np.flatnonzero(label == kind))
            part[own] = np.arange(len(own)) < round(STOP * len(own))
        return part
    starts = np.flatnonzero(order.run == 0)
    for start, stop in zip(starts, np.append(starts[1:], n), strict=True):
        part[start:stop] = _shares(stop - start, STOP)
    return part


def _shares(n: int, share: float) -> NDArray[np.int64]:
    """(n,) parts in order: two rows at least train and stop, one at least calibrates."""
    n_stop, n_calibrate = max(min(2, n // 2), round(share * n)), max(1, round(CALIBRATE * n))
    n_calibrate = min(n_calibrate, n - n_stop)
    return np.repeat([0, 1, 2], [n - n_stop - n_calibrate, n_stop, n_calibrate])


def _only(series: Series, chosen: NDArray[np.bool_]) -> Series:
    """The chosen rows; each knows only the chosen rows directly before it."""
    at = np.arange(len(chosen))
    broken = ~np.concatenate([[False], chosen[:-1]]) | (series.run.numpy() == 0)
    run = at - np.maximum.accumulate(np.where(broken, at, 0))
    keep = torch.from_numpy(chosen)
    return Series(series.rows[keep], torch.from_numpy(run[chosen]), series.label[keep])


def _score(scorer: Scorer, series: Series) -> _Scored:
    score, contributions = scorer(series.rows, series.run)
    return _Scored(score.numpy().astype(np.float64), contributions.numpy().astype(np.float64))
