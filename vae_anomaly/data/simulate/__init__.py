"""A plant with known truth and planted faults: for the demo, tests and power studies."""

from vae_anomaly.data.simulate.faults import FOREVER, KINDS, LABELS, Fault
from vae_anomaly.data.simulate.files import DIRT, Written, plant_yaml, write_files
from vae_anomaly.data.simulate.physics import CONTEXT, MODES, NOISE, SENSORS
from vae_anomaly.data.simulate.rows import SCHEMA, expected, pieces, simulate, truth
from vae_anomaly.data.simulate.schedule import demo, random_faults, regime_change
from vae_anomaly.data.simulate.settings import Simulation

__all__ = [
    "CONTEXT",
    "DIRT",
    "FOREVER",
    "KINDS",
    "LABELS",
    "MODES",
    "NOISE",
    "SCHEMA",
    "SENSORS",
    "Fault",
    "Simulation",
    "Written",
    "demo",
    "expected",
    "pieces",
    "plant_yaml",
    "random_faults",
    "regime_change",
    "simulate",
    "truth",
    "write_files",
]
