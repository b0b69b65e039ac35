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
from typing import Any, Literal, NamedTuple

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

from vae_anomaly.config import Labels, Training, default_variant, is_series, window_rows
from vae_anomaly.decisions.reference import clear_of_anomalies
from vae_anomaly.decisions.thresholds import (
    Target,
    calibrate,
    rows_needed,
    supported_false_alarm_rate,
)
from vae_anomaly.detector_parts import (
    CALIBRATE,
    Order,
    only,
    parts_of,
    series_order,
    with_context,
)
from vae_anomaly.errors import InputError
from vae_anomaly.latent.augmented import fit_augmented
from vae_anomaly.models.standardize import Series, fit_standardizer
from vae_anomaly.models.training import History
from vae_anomaly.models.variants import Variant, variant_of
from vae_anomaly.scoring.baseline_fitting import fit_changes
from vae_anomaly.scoring.columns import Column, flags
from vae_anomaly.scoring.counterfactual import Counterfactual, counterfactual
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer
from vae_anomaly.scoring.labelled import NormalRows, anomalies_of, normal_rows, takes_labels, tell
from vae_anomaly.scoring.scorer import Scorer

__all__ = ["VAEDetector"]

logger = logging.getLogger(__name__)

#: Levels that a categorical column may have.
MOST_LEVELS = 1000

#: Rows without which no part of them could train, stop and calibrate.
LEAST_ROWS = 5


class VAEDetector(OutlierMixin, BaseEstimator):
    """Anomaly detector by a variational autoencoder.

    Parameters
    ----------
    variant : str or Variant, default="auto"
        Member of the family: a name in ``VARIANTS``, or its settings, such as
        ``Gaussian(latent_dim=4)``; "auto" is "gaussian" in a table, "ensemble" in a series, and
        "mixed" with categorical columns.
    window : int or "auto", default=1
        Rows that are judged together; more than 1 makes the rows a series in time order, and so
        does "auto", which is 60 rows of a single judged column, fewer of several, and at least 3.
    smoothing : float, "auto" or None, default=None
        Rate of the EWMA of the score, in (0, 1], or "auto": the largest of several EWMAs, from the
        row itself to some sixty rows. Makes the rows a series likewise.
    anomaly_score : str, default="auto"
        A name in ``SCORES``; "auto" is "fused" in a table, and the variant's own in a series, of
        images, and where context explains the rows.
    context : sequence of str or int, or "auto", default="auto"
        Columns that explain and are not themselves judged: names of a DataFrame, or positions;
        "auto" are those of a series that hold nothing but 0 and 1, such as commands and states, and
        none of a table.
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
        Conformal threshold of the score, on rows that the weights had not seen.
    offset_ : float
        Minus the threshold: ``decision_function(X) = score_samples(X) - offset_``.
    supported_false_alarm_rate_ : float
        The rate of `threshold_`; above `false_alarm_rate` where the rows were too few for it.
    history_ : History
        Bounds at each check of the first training, whose held-out rows were not learnt from, and
        what the training doctor saw and did.
    notes_ : tuple of str
        What one should know of the columns, of the training and of the latent; also logged.
    context_ : tuple of int
        Positions of the columns that explain and are not judged.
    n_features_in_ : int
    feature_names_in_ : ndarray of str

    Notes
    -----
    In a table rows are split by chance: 64 % train, 16 % stop the training, 20 % set the threshold,
    which neither weights nor score have seen. Then it learns once more, from those that set the
    threshold too; this stays as it was set. With a window or smoothing rows are a series, and are
    split in time order within each group: 70 %, 10 %, 20 %. It learns once more from all rows and
    for as many steps as were best, so that the latest are known to it; the threshold, and what a
    normal score is, stay as they were on rows that had not been learnt from. On a few hundred rows
    of a table the distance to the nearest normal row is often as good, and simpler.

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
        variant: str | Variant = "auto",
        *,
        window: int | Literal["auto"] = 1,
        smoothing: float | Literal["auto"] | None = None,
        anomaly_score: str = "auto",
        context: Sequence[str | int] | Literal["auto"] = "auto",
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
        self.context_: tuple[int, ...] = self._learn_context(rows[label <= 0])
        variant = self._member()
        takes_labels(variant, self.labels)  # refuses unknown words before any work
        self._learn_levels(rows, variant)
        order = series_order(groups, len(rows))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        series = self._series(rows[order.rows], order.run, label[order.rows])
        part = parts_of(
            series.label.numpy(),
            order,
            seed,
            is_series=self._is_series,
            learns_labels=variant.learns_labels,
        )
        train, stop = (only(series, part == number) for number in (0, 1))
        fit = partial(
            fit_scorer,
            stop=stop,
            n_context=len(self.context_),
            levels=tuple(n for i, n in enumerate(self._levels) if i not in self.context_),
            anomaly_score=self._score_name(variant),
            window=window_rows(self.window, self.n_features_in_ - len(self.context_)),
            smoothing=self.smoothing,
            columns=self._titles(),
            seed=seed,
        )
        training = self.training or Training()

        def fitted_to(rows: Series, **how: Any) -> FittedScorer:
            return fit_augmented(
                rows, stop, lambda rows, _: fit(rows, **how), share=training.augment, seed=seed
            ).fitted

        if self._is_series and not self._varies(train):
            first = last = fit_changes(
                train.rows[train.label <= 0],
                n_context=len(self.context_),
                smoothing=self.smoothing,
                columns=self._titles(),
            )
        else:
            first = last = fitted_to(train, variant=variant, training=training)
        self.history_: History = first.history
        self._trained = [self._kept(first.scorer, train, stop)]
        if first.training is not None:
            if self._is_series:
                known, again = series, _as_long(first.training, first.history.best_step)
            else:
                known, again = only(series, (part == 0) | (part == 2)), first.training
            last = fitted_to(known, variant=first.scorer.variant, training=again, remedied=False)
            last.scorer.measured_as(first.scorer)
            self._trained.append(self._kept(last.scorer, known, stop))
        self.scorer_: Scorer = last.scorer
        doctor = [] if last is first else map(str, first.history.events)
        self.notes_: tuple[str, ...] = (*doctor, *last.notes)
        self._calibration = with_context(
            series, self._held(series, part), self.scorer_.left_context
        )
        self._told = ""
        if self._is_told and len(anomalies_of(first.scorer, series).x):
            self._tell(series)
        else:
            self._set_threshold(first.scorer)
        for note in self.notes_:
            logger.warning(note)
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
        if not self._is_told:
            raise InputError(
                f"{self.scorer_.called} with labels={self.labels!r} learns no labels after fit: "
                "fit again with them, or with labels='default' or 'strict'"
            )
        label = _as_labels(y, len(order.rows))[order.rows]
        series = series._replace(label=torch.from_numpy(label))
        self._tell(series)
        logger.warning(self.notes_[-1])
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

    def explain(self, X: ArrayLike) -> Counterfactual:
        """The smallest change that makes the last row of X normal: see `counterfactual`.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_rows, n_features)
            The row to be explained, last; with a window or smoothing, those before it.

        Returns
        -------
        Counterfactual
            Of the judged columns, in the order of `contributions`.
        """
        _, series = self._ordered(X, None)
        rows = series.rows if self._is_series else series.rows[-1:]
        return counterfactual(self.scorer_, rows, threshold=self.threshold_.value)

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

    @property
    def _is_told(self) -> bool:
        return self._trained[0].normal is not None

    def _kept(self, scorer: Scorer, train: Series, stop: Series) -> _Trained:
        """A scorer, with what a label head would learn from."""
        is_told = takes_labels(scorer.variant, self.labels)
        return _Trained(scorer, normal_rows(scorer, train=train, stop=stop) if is_told else None)

    def _tell(self, series: Series) -> None:
        """Fit a label head to the anomalies of a series, and say in the notes what it is worth."""
        told = [
            tell(scorer, normal, anomalies_of(scorer, series), self.labels)
            for scorer, normal in self._trained
            if normal is not None
        ]
        self.scorer_ = told[-1].scorer.measured_as(told[0].scorer)
        self.notes_ = (*(note for note in self.notes_ if note != self._told), told[0].note)
        self._told = told[0].note
        self._set_threshold(told[0].scorer)

    def _scored(self, X: ArrayLike, groups: ArrayLike | None) -> _Scored:
        order, series = self._ordered(X, groups)
        found = _score(self.scorer_, series)
        back = np.argsort(order.rows)
        return _Scored(found.score[back], found.contributions[back])

    def _ordered(self, X: ArrayLike, groups: ArrayLike | None) -> tuple[Order, Series]:
        """The order that keeps each series together, and the rows in it."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        order = series_order(groups, len(rows))
        unknown = np.zeros(len(rows), np.int64)
        return order, self._series(rows[order.rows], order.run, unknown)

    def _series(
        self, rows: NDArray[np.float64], run: NDArray[np.int64], label: NDArray[np.int64]
    ) -> Series:
        """Rows with the sensors first, then the context."""
        sensors = [i for i in range(rows.shape[1]) if i not in self.context_]
        columns = np.ascontiguousarray(rows[:, [*sensors, *self.context_]])
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
        if both := set(codes) & set(self.context_):
            raise InputError(
                f"column {min(both)} of X is categorical and context; context columns are numbers: "
                "give one column a level"
            )
        self._levels = [0] * rows.shape[1]
        for column in codes:
            self._levels[column] = int(np.nanmax(_codes(rows[:, column]), initial=-1)) + 2

    def _learn_context(self, normal: NDArray[np.float64]) -> tuple[int, ...]:
        """Positions of the columns that explain, as given or found in normal rows."""
        if self.context == "auto":
            if not self._is_series:
                return ()
            codes = self._columns(self.categorical, "categorical")
            found = [i for i in flags(torch.from_numpy(normal)) if i not in codes]
            return tuple(found) if len(found) < self.n_features_in_ else ()
        columns = self._columns(self.context, "context")
        if len(columns) == self.n_features_in_:
            raise InputError(f"context={tuple(self.context)!r} leaves no column to judge")
        return tuple(columns)

    def _varies(self, train: Series) -> bool:
        """Whether any judged column of the normal rows does, or has no value at all."""
        found = fit_standardizer(train.rows[train.label <= 0], len(self.context_))
        return bool(found.active.any()) or not len(found.constants)

    def _member(self) -> Variant:
        """The member of the family, with "auto" resolved."""
        if not isinstance(self.variant, str):
            return self.variant
        auto = default_variant(is_series=self._is_series, has_levels=bool(self.categorical))
        return variant_of(auto if self.variant == "auto" else self.variant, {})

    def _titles(self) -> tuple[Column, ...]:
        """What the notes call each column of X, sensors first, then the context."""
        names = list(getattr(self, "feature_names_in_", range(self.n_features_in_)))
        order = [*(i for i in range(len(names)) if i not in self.context_), *self.context_]
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
        return is_series(self.window, self.smoothing)

    def _score_name(self, variant: Variant) -> str:
        is_table = not self._is_series and not self.context_
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

    def _set_threshold(self, scorer: Scorer) -> None:
        """Set it by a scorer that has learnt nothing from the rows that are held for it."""
        rate, (series, held) = self.false_alarm_rate, self._calibration
        normal = _score(scorer, series).score[held]
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
            normal,
            np.zeros(len(normal), np.int64),
            rule="conformal",
            target=Target(false_alarm_rate=rate),
        )
        self.threshold_ = found.threshold
        self.supported_false_alarm_rate_ = rate
        self.offset_ = -found.threshold.value

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _as_long(training: Training, n_steps: int) -> Training:
    """The same, for as many steps: what was best where rows were held out is so where none are."""
    return training.model_copy(update={"min_steps": n_steps, "max_steps": n_steps})


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


class _Trained(NamedTuple):
    """A scorer without a label head, and what one would learn from; None if it takes none."""

    scorer: Scorer
    normal: NormalRows | None


def _score(scorer: Scorer, series: Series) -> _Scored:
    score, contributions = scorer(series.rows, series.run)
    return _Scored(score.numpy().astype(np.float64), contributions.numpy().astype(np.float64))
