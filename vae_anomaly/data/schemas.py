"""Columns of the Delta tables of a plant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from vae_anomaly.config import Contract
from vae_anomaly.data.times import MOMENT

__all__ = [
    "ALARMS",
    "ANNOUNCEMENTS",
    "DRIFT",
    "FILES",
    "LABELS",
    "N_TOP",
    "PARTS",
    "PROMOTIONS",
    "QUARANTINE",
    "READINGS",
    "SAMPLES",
    "TABLES",
    "VERDICTS",
    "completed",
    "readings_schema",
    "samples_schema",
]

#: Sensors that a verdict names.
N_TOP: Final = 3

READINGS: Final = "readings"
SAMPLES: Final = "samples"
QUARANTINE: Final = "quarantine"
FILES: Final = "files"
PARTS: Final = "parts"
VERDICTS: Final = "verdicts"
ALARMS: Final = "alarms"
LABELS: Final = "labels"
PROMOTIONS: Final = "promotions"
ANNOUNCEMENTS: Final = "announcements"
DRIFT: Final = "drift"

_TEXTS = pa.list_(pa.string())
_NUMBERS = pa.list_(pa.float64())

_TOLD = pa.struct([("alarm_id", pa.string()), ("n_announced", pa.int64()), ("is_over", pa.bool_())])

_CELL = pa.struct(
    [("sensor", pa.string()), ("state", pa.string()), ("text", pa.string()), ("n", pa.int64())]
)

#: Of the tables whose columns no contract changes.
TABLES: Mapping[str, pa.Schema] = {
    QUARANTINE: pa.schema(
        [
            ("content_id", pa.string()),
            ("path", pa.string()),
            ("row", pa.int64()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("raw", pa.string()),
            ("asset", pa.string()),
            ("time", MOMENT),
            ("quarantined_at", MOMENT),
        ]
    ),
    FILES: pa.schema(
        [
            ("path", pa.string()),
            ("size", pa.int64()),
            ("modified_ns", pa.int64()),
            ("contract_digest", pa.string()),
            ("content_id", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("n_read", pa.int64()),
            ("n_accepted", pa.int64()),
            ("n_quarantined", pa.int64()),
            ("n_duplicate", pa.int64()),
            ("cells", pa.list_(_CELL)),
            ("n_out_of_order", pa.int64()),
            ("largest_step_back_s", pa.float64()),
            ("watermark", pa.string()),
            ("ingested_at", MOMENT),
        ]
    ),
    PARTS: pa.schema(
        [
            ("fingerprint", pa.string()),
            ("readings_version", pa.int64()),
            ("part", pa.string()),
            ("asset", pa.string()),
            ("start", MOMENT),
            ("end", MOMENT),
            ("n_rows", pa.int64()),
        ]
    ),
    VERDICTS: pa.schema(
        [
            ("line", pa.string()),
            ("asset", pa.string()),
            ("time", MOMENT),
            ("score", pa.float32()),
            ("threshold", pa.float32()),
            ("p_value", pa.float32()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("mode", pa.string()),
            ("top_sensors", _TEXTS),
            ("top_contributions", _NUMBERS),
            ("top_shares", _NUMBERS),
            ("top_directions", _TEXTS),
            ("top_expected", _NUMBERS),
            ("constant_changed", _TEXTS),
            ("sensor_faults", _TEXTS),
            ("late", pa.bool_()),
            ("model_version", pa.string()),
            ("package_digest", pa.string()),
            ("readings_version", pa.int64()),
            ("scored_at", MOMENT),
        ]
    ),
    ALARMS: pa.schema(
        [
            ("alarm_id", pa.string()),
            ("line", pa.string()),
            ("asset", pa.string()),
            ("start", MOMENT),
            ("raised", MOMENT),
            ("end", MOMENT),
            ("closed", MOMENT),
            ("state", pa.string()),
            ("n_rows", pa.int64()),
            ("n_raised", pa.int64()),
            ("n_announced", pa.int64()),
            ("peak_score", pa.float32()),
            ("peak_time", MOMENT),
            ("peak_version", pa.string()),
            ("top_sensors", _TEXTS),
            ("top_contributions", _NUMBERS),
            ("top_directions", _TEXTS),
            ("model_version", pa.string()),
            ("updated_at", MOMENT),
        ]
    ),
    LABELS: pa.schema(
        [
            ("number", pa.int64()),
            ("label_id", pa.string()),
            ("alarm_id", pa.string()),
            ("asset", pa.string()),
            ("start", MOMENT),
            ("end", MOMENT),
            ("verdict", pa.string()),
            ("fault", pa.string()),
            ("who", pa.string()),
            ("comment", pa.string()),
            ("said_at", MOMENT),
        ]
    ),
    PROMOTIONS: pa.schema(
        [
            ("number", pa.int64()),
            ("at", MOMENT),
            ("action", pa.string()),
            ("from_version", pa.string()),
            ("to_version", pa.string()),
            ("by", pa.string()),
            ("why", pa.string()),
            ("gate", pa.string()),
            ("readings_version", pa.int64()),
            ("scored_through", pa.int64()),
        ]
    ),
    ANNOUNCEMENTS: pa.schema(
        [
            ("delivery_id", pa.string()),
            ("number", pa.int64()),
            ("message_id", pa.string()),
            ("block", pa.string()),
            ("kind", pa.string()),
            ("alarms", pa.list_(_TOLD)),
            ("flow", pa.string()),
            ("subject", pa.string()),
            ("body", pa.string()),
            ("state", pa.string()),
            ("attempt", pa.int64()),
            ("error", pa.string()),
            ("due_at", MOMENT),
            ("changed_at", MOMENT),
        ]
    ),
    DRIFT: pa.schema(
        [
            ("model_version", pa.string()),
            ("package_digest", pa.string()),
            ("start", MOMENT),
            ("end", MOMENT),
            ("asset", pa.string()),
            ("check", pa.string()),
            ("column", pa.string()),
            ("figure", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
            ("usual", pa.float64()),
            ("limit", pa.float64()),
            ("p_value", pa.float64()),
            ("adjusted_p_value", pa.float64()),
            ("verdict", pa.string()),
            ("columns", _TEXTS),
            ("reason", pa.string()),
            ("n_windows", pa.int64()),
            ("sample_digest", pa.string()),
            ("readings_version", pa.int64()),
            ("monitored_at", MOMENT),
        ]
    ),
}


def readings_schema(contract: Contract) -> pa.Schema:
    """Columns of the table of readings under a contract.

    ``asset, time``, the sensors, the context, what the run condition asks for beside them,
    ``label`` (null = unknown), ``mode``, the file's ``content_id``, the ``row`` in it, and
    ``ingest``, the number of the commit. Where readings are formed from samples, they have no
    ``content_id`` and ``row``, and ``filled`` is the number of sensor and context cells without a
    sample of their own (null without resampling).
    """
    filled = [("filled", pa.int32())] if contract.is_shaped else []
    values = [
        (sensor.name, pa.string() if sensor.kind == "categorical" else pa.float64())
        for sensor in (*contract.sensors, *contract.context)
    ]
    kinds = {"number": pa.float64(), "text": pa.string()}
    carried = [(name, kinds[kind]) for name, kind in contract.carried.items()]
    return pa.schema(
        [
            ("asset", pa.string()),
            ("time", MOMENT),
            *values,
            *carried,
            ("label", pa.int32()),
            ("mode", pa.string()),
            ("content_id", pa.string()),
            ("row", pa.int64()),
            ("ingest", pa.int64()),
            *filled,
        ]
    )


def completed(table: pa.Table, contract: Contract) -> pa.Table:
    """Readings with every column of a contract; one that the lake has never had is null."""
    for column in readings_schema(contract):
        if column.name not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    return table


def samples_schema(contract: Contract) -> pa.Schema:
    """Columns of the table of samples: the accepted rows, where readings are formed from them.

    In the wide layout those of the readings: an empty cell, which is no sample, is null; a bad one
    is NaN; a label that is said to be unknown is -1. In the long one ``sensor`` (the tag),
    ``value`` (null = missing) and ``text`` (of a tag whose values are names), beside asset, time
    and provenance.
    """
    if contract.long is None:
        schema = readings_schema(contract)
        return schema.remove(schema.get_field_index("filled")) if contract.is_shaped else schema
    return pa.schema(
        [
            ("asset", pa.string()),
            ("time", MOMENT),
            ("sensor", pa.string()),
            ("value", pa.float64()),
            ("text", pa.string()),
            ("content_id", pa.string()),
            ("row", pa.int64()),
            ("ingest", pa.int64()),
        ]
    )
