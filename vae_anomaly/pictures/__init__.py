"""Pictures of a run: PNG files, 1,000 pixels wide, for MLflow, reports and people.

Blue is normal, vermilion is anomalous, amber is where the labels say fault, a dashed black line is
a threshold: the palette of Okabe & Ito, which colour-blind readers can tell apart. What a picture
leaves out, it says. Drawing sets nothing for others: no pyplot, no styles, no window. The same
input gives the same file.

::

    curves       detection against false alarms; the bound over training
    histograms   scores of each class
    timelines    scores of each asset over time
    drift        how far each figure has drifted, window by window
    surveys      rows per hour; what became of each sensor's cells
    bars         the model beside the baselines; the sensors behind the anomalies
    compared     generated rows beside real ones
    rates        what other budgets of alarms find; false alarms of each operating mode
    images       a grid; strips and traversals; input, reconstruction and difference
    latents      a map of the rows; what each latent does to the sensors
    signals      sensors on the way from one row to another; readings in their expected band
    style        palette, page, axes, ticks, legend, and the file written
    words        counts, shares, intervals and names as texts
"""

from __future__ import annotations

from vae_anomaly.pictures.bars import baseline_bars, sensor_shares
from vae_anomaly.pictures.compared import compared_rows
from vae_anomaly.pictures.curves import roc_picture, training_curves
from vae_anomaly.pictures.drift import drift_grid
from vae_anomaly.pictures.histograms import score_histogram
from vae_anomaly.pictures.images import image_grid, image_reconstructions, image_rows
from vae_anomaly.pictures.latents import latent_map, traversal_lines
from vae_anomaly.pictures.rates import budget_curve, mode_rates
from vae_anomaly.pictures.signals import interpolation_lines, reconstruction_band
from vae_anomaly.pictures.surveys import cell_states, rows_per_hour
from vae_anomaly.pictures.timelines import timeline
from vae_anomaly.pictures.words import Estimate

__all__ = [
    "Estimate",
    "baseline_bars",
    "budget_curve",
    "cell_states",
    "compared_rows",
    "drift_grid",
    "image_grid",
    "image_reconstructions",
    "image_rows",
    "interpolation_lines",
    "latent_map",
    "mode_rates",
    "reconstruction_band",
    "roc_picture",
    "rows_per_hour",
    "score_histogram",
    "sensor_shares",
    "timeline",
    "training_curves",
    "traversal_lines",
]
