"""A threshold of rows that nobody has labelled, checked by the few that somebody has."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from vae_anomaly.decisions.rates import Roc

__all__ = ["corrected"]

#: Confidence, one-sided, with which labels must speak before the threshold is raised: it stands on
#: many more rows than they are; and before it is lowered.
REFUTED, VOUCHED = 0.99, 0.95


def corrected(value: float, labelled: Roc, false_alarm_rate: float) -> float:
    """A threshold moved as far as labelled rows support, and no further.

    It is raised where the labelled normal rows refute it (the lower bound of their rate above it is
    over the one asked for), until they no longer do. It is lowered where labelled anomalies lie
    below it and the labelled normal rows vouch for the lower threshold (the upper bound of their
    rate is within the one asked for), to catch as many anomalies as that allows, and no lower: rows
    without labels hide anomalies that make their threshold too high. Otherwise it stays. Labelled
    rows must be a fair sample: of false alarms alone, they refute any threshold.

    Parameters
    ----------
    value : float
        The threshold of the rows without labels.
    labelled : Roc
        Of the rows with labels.
    false_alarm_rate : float
        As asked for.

    References
    ----------
    Clopper & Pearson (1934), The use of confidence or fiducial limits illustrated in the case of
    the binomial, Biometrika 26.

    Examples
    --------
    >>> from vae_anomaly.decisions.rates import exact_roc
    >>> labelled = exact_roc(np.linspace(0, 1, 400), np.array([2.0, 3.0, 6.0]))
    >>> corrected(5.0, labelled, 0.01)  # 0 of 400 normal rows are above 1
    1.0
    >>> corrected(0.9, labelled, 0.01)  # and 40 of them above 0.9
    0.97...
    """
    n, above = labelled.n_normal, labelled.false_alarms
    if not n:
        return value
    at_least = np.where(above > 0, beta.ppf(1 - REFUTED, np.maximum(above, 1), n - above + 1), 0.0)
    at_most = np.where(above < n, beta.ppf(VOUCHED, above + 1, np.maximum(n - above, 1)), 1.0)
    here = labelled.locate(value)
    if at_least[here] > false_alarm_rate:
        return float(labelled.lowest(at_least <= false_alarm_rate))
    vouched = np.flatnonzero((labelled.values < value) & (at_most <= false_alarm_rate))
    if not len(vouched) or labelled.detections[vouched[0]] <= labelled.detections[here]:
        return value
    most = labelled.detections[vouched[0]]
    return float(labelled.values[vouched[labelled.detections[vouched] == most][-1]])
