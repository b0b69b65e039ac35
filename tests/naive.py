"""Brute-force twins of the fast algorithms: slow, short, and obviously right."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from math import comb, exp, hypot, log, sqrt
from random import Random

import numpy as np

from vae_anomaly.config import AlarmRule
from vae_anomaly.decisions.alarms import ACTIVE, ENDED, LATCHED, SUPPRESSED, Episode, Evidence


class Landing:
    """What landing chunks of (asset, time, *values) does, with a dictionary."""

    def __init__(self) -> None:
        self.first: dict[tuple, tuple] = {}

    def land(self, entries: list[tuple]) -> tuple[int, int, int, int]:
        """(read, accepted, quarantined, duplicate) of one chunk of a new file."""
        accepted = quarantined = duplicate = 0
        for asset, time, *values in entries:
            there = self.first.setdefault((asset, time), None)
            if there is None:
                self.first[asset, time] = tuple(values)
                accepted += 1
            elif there == tuple(values):
                duplicate += 1
            else:
                quarantined += 1
        return len(entries), accepted, quarantined, duplicate

    def rows(self) -> list[tuple]:
        return [(*key, *values) for key, values in self.first.items()]


class Shaping:
    """Readings of a set of samples (asset, time, column, value or None), one cell at a time.

    Times, the period, the wait and the limits are whole numbers of one unit; rules are
    column → (how, limit). A period of 0 makes every time of a sensor's sample a moment.
    """

    def __init__(self, samples: list[tuple], rules: dict, sensors: list[str]) -> None:
        self.series: dict[tuple, dict] = {}
        for asset, time, column, value in samples:
            self.series.setdefault((asset, column), {})[time] = value
        self.rules, self.sensors = rules, sensors

    def readings(self, period: int, wait: int) -> dict[tuple, dict]:
        """(asset, moment) → column → (value, whether it is filled)."""
        found = {}
        for asset in sorted({asset for asset, _ in self.series}):
            times = [t for (a, _), s in self.series.items() if a == asset for t in s]
            horizon = max(times) - wait
            stop = max(times) if period == 0 else max(times) // period * period
            start = min(times) if period == 0 else min(times) // period * period
            for t in range(start, stop + 1, period or 1):
                if t > horizon or not all(self._known(asset, c, t, horizon) for c in self.rules):
                    break
                cells = {c: self._cell(asset, c, t, period) for c in self.rules}
                own = any(self._own(asset, c, t, period) for c in self.sensors)
                if own or any(cells[c][0] is not None for c in self.sensors):
                    found[asset, t] = cells
        return found

    def _own(self, asset: str, column: str, t: int, period: int) -> list[int]:
        series = self.series.get((asset, column), {})
        return sorted(s for s in series if t - (period or 1) < s <= t)

    def _known(self, asset: str, column: str, t: int, horizon: int) -> bool:
        how, limit = self.rules[column]
        series = self.series.get((asset, column), {})
        before = [s for s in series if s <= t]
        if how != "interpolate" or not before or max(before) == t or series[max(before)] is None:
            return True
        return any(t < s <= horizon for s in series) or max(before) + limit <= horizon

    def _cell(self, asset: str, column: str, t: int, period: int) -> tuple:
        how, limit = self.rules[column]
        series = self.series.get((asset, column), {})
        own = self._own(asset, column, t, period)
        before = [s for s in series if s <= t]
        after = [s for s in series if s > t]
        value = None
        if how == "mean":
            good = [series[s] for s in own if series[s] is not None]
            value = sum(good) / len(good) if good else None
        elif before and (max(before) == t or (how == "last" and (own or t - max(before) <= limit))):
            value = series[max(before)]
        elif how == "interpolate" and before and after and min(after) - max(before) <= limit:
            p, n = max(before), min(after)
            if series[p] is not None and series[n] is not None:
                value = series[p] + (series[n] - series[p]) * (t - p) / (n - p)
        return value, value is not None and not own


def runs(keys: list[tuple[str, float]], max_gap: float | None) -> list[int]:
    """Rows of the same series directly before each of the sorted (asset, time)."""
    result: list[int] = []
    for i, (asset, time) in enumerate(keys):
        joined = i > 0 and keys[i - 1][0] == asset
        if joined and max_gap is not None and time - keys[i - 1][1] > max_gap:
            joined = False
        result.append(result[-1] + 1 if joined else 0)
    return result


def threshold(rule: str, normal: list[float], anomalous: list[float], asked: str) -> float | None:
    """The threshold of a rule, by trying every score; None where it refuses.

    What is asked for as it is written, such as '0.1': false alarm rate, beta, detection rate, 1 -
    precision, cost of a missed anomaly beside a false alarm, or 1 - the fixed value.
    """
    share, n, m = Fraction(asked), len(normal), len(anomalous)

    def above(scores: list[float], value: float) -> int:
        return sum(score > value for score in scores)

    def rates(value: float) -> tuple[Fraction, Fraction]:
        return Fraction(above(normal, value), n), Fraction(above(anomalous, value), m)

    def precision(value: float) -> Fraction:
        wrong, right = above(normal, value), above(anomalous, value)
        return Fraction(right, wrong + right) if wrong + right else Fraction(0)

    def f_beta(value: float) -> Fraction:
        of_alarms, detected = precision(value), rates(value)[1]
        weight = share**2
        if not detected:
            return Fraction(0)
        return (1 + weight) * of_alarms * detected / (weight * of_alarms + detected)

    gains = {
        "youden": lambda v: rates(v)[1] - rates(v)[0],
        "nearest_corner": lambda v: -(rates(v)[0] ** 2) - (1 - rates(v)[1]) ** 2,
        "f_beta": f_beta,
        "cost": lambda v: -above(normal, v) - share * (m - above(anomalous, v)),
    }
    candidates = sorted(
        {math.nextafter(min([*normal, *anomalous]), -math.inf), *normal, *anomalous}
    )
    if rule == "fixed":
        return float(1 - share)
    if rule in gains:
        # among equal gains: fewest false alarms, and the lowest of those that alarm alike
        return max(candidates, key=lambda v: (gains[rule](v), -above(normal, v), -v))
    if rule == "false_alarm_rate":
        return min(v for v in candidates if rates(v)[0] <= share)
    if rule == "precision":
        enough = [v for v in candidates if precision(v) >= 1 - share]
        return min(enough) if enough and share * m >= 1 - share else None
    if rule == "detection_rate":
        # a fresh anomaly is as likely to take any rank among the m + 1
        enough = [v for v in candidates if Fraction(above(anomalous, v), m + 1) >= share]
        return max(enough, default=None)
    # conformal: a fresh row is as likely to take any rank among the n + 1
    start = min(v for v in candidates if Fraction(above(normal, v) + 1, n + 1) <= share)
    return start if rule == "conformal" else corrected(start, normal, anomalous, asked)


def corrected(start: float, normal: list[float], anomalous: list[float], asked: str) -> float:
    """A threshold moved by labels: by exact binomial tests at the rate asked for."""
    rate, n = Fraction(asked), len(normal)

    def chance(counts: range) -> Fraction:
        return sum((comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in counts), Fraction(0))

    def refuted(value: float) -> bool:
        return chance(range(sum(s > value for s in normal), n + 1)) < Fraction(1, 100)

    def vouched(value: float) -> bool:
        return chance(range(sum(s > value for s in normal) + 1)) <= Fraction(1, 20)

    def caught(value: float) -> int:
        return sum(s > value for s in anomalous)

    candidates = sorted(
        {math.nextafter(min([*normal, *anomalous]), -math.inf), *normal, *anomalous}
    )
    if refuted(start):
        return min(v for v in candidates if v >= start and not refuted(v))
    lower = [v for v in candidates if v < start and vouched(v) and caught(v) > caught(start)]
    return max(lower, key=lambda v: (caught(v), v), default=start)


def pareto(excesses: list[float]) -> tuple[float, float]:
    """Shape and scale by Zhang and Stephens (2009), in their own letters; excesses rise."""
    n = len(excesses)
    m = 20 + int(sqrt(n))
    quartile = excesses[int(n / 4 + 0.5) - 1]

    def k(theta: float) -> float:
        return -sum(log(1 - theta * x) for x in excesses) / n

    thetas = [
        1 / excesses[-1] + (1 - sqrt(m / (j - 0.5))) / (3 * quartile) for j in range(1, m + 1)
    ]
    likelihoods = [n * (log(theta / k(theta)) + k(theta) - 1) for theta in thetas]
    weights = [1 / sum(exp(other - own) for other in likelihoods) for own in likelihoods]
    theta = sum(t * w for t, w in zip(thetas, weights, strict=True))
    return -k(theta), k(theta) / theta


def chances_of_alarms(n: int, k: int, n_fresh: int) -> list[Fraction]:
    """Chance that 0, 1, ... of the fresh rows lie above the k-th largest of n, all orders alike."""
    orders = comb(n + n_fresh, n_fresh)
    return [
        Fraction(comb(j + k - 1, j) * comb(n - k + n_fresh - j, n_fresh - j), orders)
        for j in range(n_fresh + 1)
    ]


def auroc(normal: list[float], anomalous: list[float]) -> float:
    """Share of pairs in the right order, a tie counting half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in anomalous for b in normal]
    return sum(pairs) / len(pairs)


def average_precision(normal: list[float], anomalous: list[float]) -> float:
    """Mean over the anomalous rows of the precision among rows that score at least as high."""
    total = 0.0
    for score in anomalous:
        right = sum(other >= score for other in anomalous)
        total += right / (right + sum(other >= score for other in normal))
    return total / len(anomalous)


def p_value(score: float, reference: list[float]) -> Fraction:
    """Rank of a score among the reference and itself."""
    return Fraction(1 + sum(other >= score for other in reference), len(reference) + 1)


def resampled_thresholds(
    rule: str, normal: list[float], anomalous: list[float], rate: str, *, times: int, seed: int
) -> list[float | None]:
    """Thresholds chosen anew on rows drawn with replacement within their class."""
    draw = Random(seed)
    return [
        threshold(
            rule,
            draw.choices(normal, k=len(normal)),
            draw.choices(anomalous, k=len(anomalous)),
            rate,
        )
        for _ in range(times)
    ]


# ------------------------------------------------------------------------------- CSV and contract


def csv_rows(body: bytes, n_columns: int, delimiter: bytes) -> list[list[bytes | None] | bytes]:
    """Rows of a CSV file after its header, character by character; a broken line as its bytes.

    A line whose quotes close is a row, read leniently. Another is one with the lines after it, if
    these follow RFC 4180 to the letter and have all columns; else it is broken, by itself.
    """
    rows: list[list[bytes | None] | bytes] = []
    at = 0
    while at < len(body):
        end = _end_of_line(body, at)
        line = body[at:end]
        after = end + (2 if body[end : end + 2] == b"\r\n" else 1)
        if not line:
            at = after
            continue
        cells, closed, _ = _csv_cells(line, 0, delimiter, lenient=True)
        if closed:
            rows.append(cells if len(cells) == n_columns else line)
            at = after
            continue
        cells, closed, end = _csv_cells(body, at, delimiter, lenient=False)
        if closed and len(cells) == n_columns:
            rows.append(cells)
            at = end + (2 if body[end : end + 2] == b"\r\n" else 1)
        else:
            rows.append(line)
            at = after
    return [[cell or None for cell in r] if isinstance(r, list) else r for r in rows]


def _end_of_line(body: bytes, at: int) -> int:
    while at < len(body) and body[at : at + 1] not in (b"\r", b"\n"):
        at += 1
    return at


def _csv_cells(
    body: bytes, at: int, delimiter: bytes, *, lenient: bool
) -> tuple[list[bytes], bool, int]:
    """Cells of a row, whether all its quotes close (and nothing follows them), and its end."""
    cells, cell, closed = [], b"", True
    at_start, quoted, was_quoted = True, False, False
    while at < len(body):
        char = body[at : at + 1]
        if quoted and char == b'"' and body[at + 1 : at + 2] == b'"':
            cell += b'"'
            at += 1
        elif quoted and char == b'"':
            quoted, was_quoted = False, True
        elif quoted:
            cell += char
        elif at_start and char == b'"':
            quoted = True
        elif char == delimiter:
            cells.append(cell)
            cell, was_quoted = b"", False
            at += 1
            at_start = True
            continue
        elif char in (b"\r", b"\n"):
            break
        else:
            cell += char
            closed = closed and (lenient or not was_quoted)
        at_start = False
        at += 1
    return [*cells, cell], closed and not quoted, at


def checked_row(cells: dict, contract, asset: str, decimal: str) -> tuple[str | None, dict]:
    """(reason, reading) of a row; its texts are bytes, its times (count, unit in ns, UTC?)."""
    from vae_anomaly.data.refusals import REASONS

    faults: set[str] = set()
    reading: dict[str, object] = {"asset": asset, "mode": None, "label": None}
    for column, name in ((contract.asset_column, "asset"), (contract.mode, "mode")):
        if column is not None:
            reading[name] = _checked_name(cells[column], faults)
            if name == "asset" and reading[name] is None and "bad_text" not in faults:
                faults.add("no_asset")
    reading["time"] = checked_time(cells[contract.time.column], contract.time, faults)
    for sensor in (*contract.sensors, *contract.context):
        is_binary = sensor.kind == "binary"
        texts = contract.quality.texts
        value = _checked_number(cells[sensor.name], decimal, faults, truths=is_binary, texts=texts)
        reading[sensor.name] = value
        if value is None:
            faults |= {"missing_value"} if sensor.missing == "refused" else set()
            continue
        faults |= {"below_range"} if sensor.low is not None and value < sensor.low else set()
        faults |= {"above_range"} if sensor.high is not None and value > sensor.high else set()
        faults |= {"not_binary"} if is_binary and value not in (0, 1) else set()
    if contract.label is not None:
        wrong: set[str] = set()
        value = _checked_number(cells[contract.label], decimal, wrong, truths=True)
        is_whole = value is None or (abs(value) < 2**31 and value == int(value))
        faults |= {"bad_label"} if wrong or not is_whole else set()
        reading["label"] = int(value) if value is not None and is_whole and value >= 0 else None
    return next((reason for reason in REASONS if reason in faults), None), reading


_NOTHING = {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "nat", "null", "none"}


def _stripped(text: str) -> str | None:
    stripped = text.strip(" \t\r\n\v\f\u00a0")
    return None if stripped.lower() in _NOTHING else stripped


def _checked_name(cell: object, faults: set[str]) -> str | None:
    """What a bytes, bool or int cell names."""
    if isinstance(cell, bool | int):
        cell = str(cell).lower().encode()
    try:
        return None if cell is None else _stripped(cell.decode())
    except UnicodeDecodeError:
        faults.add("bad_text")
        return None


def _checked_number(
    cell: object,
    decimal: str,
    faults: set[str],
    *,
    truths: bool,
    texts: tuple[str, ...] = (),
) -> float | None:
    import math
    import re
    from decimal import Decimal

    value = None
    if isinstance(cell, bytes):
        text = _stripped(cell.decode("utf-8", "backslashreplace"))
        if truths and text is not None and text.lower() in ("true", "false"):
            text = "1" if text.lower() == "true" else "0"
        if text is None or text.lower() in {known.lower() for known in texts}:
            return None
        if re.fullmatch("[+-]?inf(inity)?", text, re.I):
            value = math.inf
        elif not set(text) <= set("0123456789+-eE" + decimal):
            faults.add("not_a_number")
            return None
        else:
            try:
                value = float(text.replace(decimal, "."))
            except ValueError:
                faults.add("not_a_number")
                return None
    elif isinstance(cell, bool | int | float | Decimal):
        value = float(cell)
    elif cell is not None:
        faults.add("not_a_number")
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        faults.add("not_finite")
    return value


def checked_time(cell: object, time, faults: set[str]) -> int | None:
    """Microseconds since 1970 in UTC."""
    from datetime import UTC, datetime, timedelta
    from zoneinfo import ZoneInfo

    epoch, micro = datetime(1970, 1, 1), timedelta(microseconds=1)
    if isinstance(cell, bytes):
        text = _stripped(cell.decode("utf-8", "backslashreplace"))
        cell = text if text is None else _clock_of(text, time.format)
        if text is not None and cell is None:
            cell = "unreadable"
    if cell is None:
        faults.add("no_time")
        return None
    if not isinstance(cell, tuple):
        faults.add("bad_time")
        return None
    count, unit_ns, is_utc = cell
    micros = count * unit_ns // 1000
    first, end = ((datetime(year, 1, 1) - epoch) // micro for year in (1900, 2200))
    if not first <= micros < end:
        faults.add("bad_time")
        return None
    if is_utc:
        return micros
    wall = epoch + micros * micro
    moment = wall.replace(tzinfo=ZoneInfo(time.zone)).astimezone(UTC)
    if moment.astimezone(ZoneInfo(time.zone)).replace(tzinfo=None) != wall:
        faults.add("nonexistent_local_time")
        return None
    return (moment.replace(tzinfo=None) - epoch) // micro


def _clock_of(text: str, time_format: str | None) -> tuple[int, int, bool] | None:
    """(microseconds since 1970, 1000 ns, is UTC) of a text."""
    import re
    from datetime import datetime, timedelta

    if time_format is None:
        clock = "([0-9]{2})(:[0-9]{2})?(?(3)(:[0-9]{2})?)(?(4)([.,][0-9]{1,9})?)"
        zone = "(?: ?(Z|[+-][0-9]{2})(?::?([0-9]{2}))?)?"
        found = re.fullmatch(f"([0-9-]{{10}})(?:[T ]{clock}{zone})?", text.upper())
        date, hour, minute, second, fraction, ahead, more = found.groups() if found else 7 * "?"
        if ahead == "Z" and more:
            return None
        clock = f"{hour or '00'}{minute or ':00'}{second or ':00'}.{(fraction or '.0')[1:7]}"
        zone = "" if ahead is None else f"{ahead}{more or '00'}".replace("Z00", "+0000")
        text, time_format = f"{date} {clock}{zone}", "%Y-%m-%d %H:%M:%S.%f" + ("%z" if zone else "")
    try:
        moment = datetime.strptime(text, time_format)
        wall = moment.replace(tzinfo=None) - datetime(1970, 1, 1)
        micros = (wall - (moment.utcoffset() or timedelta())) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None
    return micros, 1000, moment.tzinfo is not None


# ------------------------------------------------------------------------ networks, scores, windows


def windows(rows: list[list[float]], run: list[int], width: int) -> list[list[float]]:
    """Each row after those before it in its series, the oldest first; NaN where none is."""
    nothing = [math.nan] * len(rows[0])
    return [
        [v for lag in reversed(range(width)) for v in (rows[i - lag] if lag <= run[i] else nothing)]
        for i in range(len(rows))
    ]


def ewma(values: list[float], run: list[int], rate: float, kernel: int) -> list[float]:
    """Exponentially weighted mean of a value and at most `kernel` - 1 of its series before it."""
    result = []
    for i, before in enumerate(run):
        weights = [rate * (1 - rate) ** lag for lag in range(min(before, kernel - 1) + 1)]
        total = sum(weight * values[i - lag] for lag, weight in enumerate(weights))
        result.append(total / sum(weights))
    return result


def multiscale(
    values: list[float], parts: list[list[float]], run: list[int], kernels: dict[float, int]
) -> list[tuple[float, list[float]]]:
    """Largest of the EWMAs by rate -> rows, each from 0 and over its own sd, and its parts.

    All but that of rate 1 are of values that grow by their logarithm beyond 5.
    """
    result = []
    shrink = [1.0 if z <= 5 else 5 * (1 + log(z / 5)) / z for z in values]
    held = [
        [z * by for z, by in zip(column, shrink, strict=True)]
        for column in (values, *zip(*parts, strict=True))
    ]
    for i, before in enumerate(run):
        of_scales = []
        for rate, kernel in kernels.items():
            weights = [rate * (1 - rate) ** lag for lag in range(min(before, kernel - 1) + 1)]
            sd = sqrt(sum(weight**2 for weight in weights))  # of independent values of variance 1
            sums = [
                sum(weight * column[i - lag] for lag, weight in enumerate(weights)) / sd
                for column in ((values, *zip(*parts, strict=True)) if rate == 1 else held)
            ]
            of_scales.append((sums[0], sums[1:]))
        result.append(max(of_scales, key=lambda found: found[0]))
    return result


def perceptron(row: list[float], layers: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """A row through linear layers (weight, bias) with SiLU between them, in float64."""
    x = np.asarray(row, float)
    for number, (weight, bias) in enumerate(layers):
        if number:
            x = x / (1 + np.exp(-x))
        x = weight.astype(float) @ x + bias
    return x


def factor_analysis(
    row: np.ndarray, loading: np.ndarray, mean: np.ndarray, sigma: np.ndarray
) -> float:
    """log N(x; mean, W W' + diag sigma²) over the entries of a row (d,) that are not NaN."""
    return gaussian(row, mean, loading @ loading.T + np.diag(sigma**2))


def gaussian(row: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """log N(x; mean, covariance) over the entries of a row (d,) that are not NaN."""
    seen = ~np.isnan(row)
    error, own = (row - mean)[seen], covariance[np.ix_(seen, seen)]
    distance = error @ np.linalg.solve(own, error)
    return float(-0.5 * (distance + np.linalg.slogdet(2 * np.pi * own)[1]))


def conditional_mean(row: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """A row (d,) whose NaN are their mean under a Gaussian, given the other entries."""
    gap = np.isnan(row)
    gain = covariance[np.ix_(gap, ~gap)] @ np.linalg.inv(covariance[np.ix_(~gap, ~gap)])
    filled = row.copy()
    filled[gap] = mean[gap] + gain @ (row - mean)[~gap]
    return filled


def best_shrinkage(rows: np.ndarray, shrinkages: tuple[float, ...], n_blocks: int) -> float:
    """Share of the identity under which held-out blocks of rows are likeliest, one after another.

    The rows (n, d) have mean 0 and no gaps.
    """
    blocks = np.array_split(rows, n_blocks)

    def likelihood(share: float) -> float:
        total = 0.0
        for held in range(n_blocks):
            others = np.concatenate([block for i, block in enumerate(blocks) if i != held])
            covariance = (1 - share) * others.T @ others / len(others)
            covariance += share * np.eye(rows.shape[1])
            total += sum(gaussian(row, np.zeros(rows.shape[1]), covariance) for row in blocks[held])
        return total

    return max(shrinkages, key=likelihood)


def normal_log_density(x: float, mu: float, sigma: float) -> float:
    """log N(x; mu, sigma²)."""
    return -0.5 * ((x - mu) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)


def marginal_mahalanobis(row: np.ndarray, covariance: np.ndarray) -> float:
    """Squared Mahalanobis distance of the entries of a row (d,) that are not NaN, from 0."""
    seen = ~np.isnan(row)
    return float(row[seen] @ np.linalg.solve(covariance[np.ix_(seen, seen)], row[seen]))


def mixture_energy(
    z: list[float], mean: list[list[float]], variance: list[list[float]], share: list[float]
) -> float:
    """-log of a mixture of Gaussians with diagonal covariances, at one point."""
    density = 0.0
    for mu, v, weight in zip(mean, variance, share, strict=True):
        part = sum(normal_log_density(a, m, s**0.5) for a, m, s in zip(z, mu, v, strict=True))
        density += weight * math.exp(part)
    return -math.log(density)


def nearest_distance(row: list[float], seen: list[bool], others: list[list[float]]) -> float:
    """Distance to the nearest row over the entries seen, as if there were all of them."""
    squares = [
        sum((a - b) ** 2 for a, b, is_seen in zip(row, other, seen, strict=True) if is_seen)
        for other in others
    ]
    return math.sqrt(min(squares) * len(row) / sum(seen))


def divergence_from_standard_normal(mu: list[float], sigma: list[float]) -> float:
    """KL(N(mu, diag sigma²) || N(0, I)) in nats."""
    return sum((m**2 + s**2 - 1) / 2 - math.log(s) for m, s in zip(mu, sigma, strict=True))


def linear_elbo(
    row: np.ndarray,
    mu: np.ndarray,
    s: np.ndarray,
    *,
    loading: np.ndarray,
    mean: np.ndarray,
    sigma: np.ndarray,
) -> float:
    """E_q log N(x; W z + mean, diag sigma²) - KL(q || N(0, I)) of q = N(mu, diag s²)."""
    error = row - mean - loading @ mu
    spread = error**2 + loading**2 @ s**2  # what the mean misses, and what z scatters by
    fit = float(-0.5 * (np.log(2 * np.pi * sigma**2) + spread / sigma**2).sum())
    return fit - divergence_from_standard_normal(mu.tolist(), s.tolist())


def free_bits(divergence: list[list[float]], allowance: float) -> float:
    """Sum over the latents of the larger of the allowance and their mean over the rows, nats."""
    total = 0.0
    for latent in range(len(divergence[0])):
        held = sum(row[latent] for row in divergence) / len(divergence)
        total += max(allowance, held)
    return total


def sawtooth(t: int, n_steps: int, cycles: int, share: float) -> float:
    """Weight at step t = 1, ..., T, T a multiple of the cycles (Fu et al. 2019, equation 6)."""
    length = n_steps // cycles
    tau = ((t - 1) % length) / length
    return tau / share if tau < share else 1.0


def pump(
    speed: float, ambient: float, bypass: float, resistance: float, level: float, density: float
) -> list[float]:
    """What the sensors of the simulated pump read in steady state, number by number."""

    def opened(edge: float) -> float:
        return 1 / (1 + exp((edge - speed) / 35))

    n = speed / 3000
    k = 3.9e-4 * resistance * (1 + 0.8 * (1 - opened(2050))) * (1 - 0.45 * opened(3150))
    k /= (1 + 2 * bypass) ** 2
    q = sqrt(max(12 * n**2 - 0.3, 0.02) / (1.33e-4 + k))
    dp = density * (12 * n**2 - 1.33e-4 * q**2)
    pressure_in = 2.5 + level - 1.5e-5 * q**2
    phi = q / (150 * n)
    efficiency = 0.78 / (1 + 0.6 * (phi - 1) ** 2)
    power = (q * dp / 36 / efficiency + 3 * density * n**3) / 0.94
    current = hypot(25, 1000 * power / (sqrt(3) * 400 * 0.88))
    vibration = 0.8 + 1.2 * n**2 + 2 * (phi - 1) ** 2 + 1.5 * bypass**2
    vibration += 1.5 * exp(-(((speed - 2450) / 120) ** 2))
    oil = 30 + 0.55 * ambient + 0.1 * (power - q * dp / 36)
    bearing = oil + 0.5 + n**2 + 0.4 * vibration
    flow = q * (1 - 0.9 * bypass)
    return [pressure_in, pressure_in + dp, flow, power, current, vibration, bearing, oil]


def lagged(values: list[float], lag: float) -> list[float]:
    """First-order lag that starts at its first value, row by row."""
    result, kept = [values[0]], exp(-1 / lag)
    for value in values[1:]:
        result.append(kept * result[-1] + (1 - kept) * value)
    return result


def held(tree: object, row: dict[str, object]) -> bool | None:  # noqa: PLR0911
    """Whether a run condition holds in a row; None where a missing value leaves it open."""
    kind = type(tree).__name__
    if kind == "Missing":
        return row[tree.column] is None
    if kind == "Not":
        inner = held(tree.part, row)
        return None if inner is None else not inner
    if kind in ("Both", "Either"):
        found = [held(part, row) for part in tree.parts]
        decisive = kind == "Either"
        if decisive in found:
            return decisive
        return None if None in found else not decisive
    value = row[tree.column]
    if value is None:
        return None
    if kind == "OneOf":
        return value in tree.values
    signs = {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
    }
    return signs[tree.sign](value, tree.value)


def nearest(vector: list[float], codes: list[list[float]]) -> int:
    """Number of the code nearest to a vector; of several, the first."""
    distances = [sum((a - b) ** 2 for a, b in zip(vector, code, strict=True)) for code in codes]
    return distances.index(min(distances))


def k_means_step(rows: list[list[float]], codes: list[list[float]]) -> list[list[float]]:
    """Each code as the mean of the rows that are nearest to it; where it stood, if none is."""
    assigned: list[list[list[float]]] = [[] for _ in codes]
    for row in rows:
        assigned[nearest(row, codes)].append(row)
    return [
        [sum(column) / len(mine) for column in zip(*mine, strict=True)] if mine else code
        for mine, code in zip(assigned, codes, strict=True)
    ]


def canonical_residual(
    train: list[list[float]], rows: list[list[float]], *, lags: int, kept: float
) -> list[float]:
    """T² of canonical variate analysis' residual space, of each row with `lags` - 1 before it."""
    train_, rows_ = np.array(train), np.array(rows)

    def past(x: np.ndarray, t: int) -> np.ndarray:
        return np.concatenate([x[t - lag] for lag in range(lags)])

    at = range(lags - 1, len(train_) - lags)
    p = np.array([past(train_, t) for t in at])
    f = np.array([np.concatenate([train_[t + ahead] for ahead in range(1, lags + 1)]) for t in at])

    def covariance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return sum(np.outer(a, b) for a, b in zip(x, y, strict=True)) / len(x)

    def root(c: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(np.linalg.inv(c))
        return vectors @ np.diag(values**0.5) @ vectors.T

    u, rho, _ = np.linalg.svd(root(covariance(p, p)) @ covariance(p, f) @ root(covariance(f, f)))
    n_state = 0
    while sum(rho[:n_state] ** 2) < kept * sum(rho**2):
        n_state += 1
    found = []
    for t in range(lags - 1, len(rows_)):
        variates = u.T @ root(covariance(p, p)) @ past(rows_, t)
        found.append(float(sum(v * v for v in variates[n_state:])))
    return found


def vus_pr(
    is_anomaly: list[bool], score: list[float], window: int, known: list[bool] | None = None
) -> float:
    """Volume under the precision-recall surface (Paparrizos et al. 2022), one row at a time.

    As TSB-AD has it: 250 thresholds at evenly spaced ranks, and of a slope only the flagged part is
    relevant.
    """
    n, areas = len(score), []
    anomalies = [
        [i for i in range(start, n) if all(is_anomaly[start : i + 1])]
        for start in range(n)
        if is_anomaly[start] and (start == 0 or not is_anomaly[start - 1])
    ]
    counting = [row for row in range(n) if known is None or known[row]]
    ranked = sorted((score[row] for row in counting), reverse=True)
    thresholds = [ranked[int(k * (len(ranked) - 1) / 249)] for k in range(250)]
    for width in range(window + 1):
        label, zones = [float(there) for there in is_anomaly], []
        for rows in anomalies:
            zone = set(rows)
            for distance in range(1, width // 2 + 1):
                for row in (rows[0] - distance, rows[-1] + distance):
                    if 0 <= row < n:
                        zone.add(row)
                        label[row] = min(1.0, label[row] + sqrt(1 - distance / width))
            met = [other for other in zones if other & zone]
            zones = [other for other in zones if other not in met] + [zone.union(*met)]
        area = before = 0.0
        for threshold in thresholds:
            flagged = [row for row in counting if score[row] >= threshold]
            true = sum(label[row] for row in flagged)
            slope = sum(label[row] for row in flagged if not is_anomaly[row])
            relevant = (sum(is_anomaly) + sum(is_anomaly) + slope) / 2
            found = sum(any(row in zone for row in flagged) for zone in zones) / len(zones)
            recall = min(true / relevant, 1.0) * found
            area += (recall - before) * true / len(flagged)
            before = recall
        areas.append(area)
    return sum(areas) / len(areas)


def alarms(rows: Evidence, rule: AlarmRule) -> list[Episode]:
    """Alarms of one asset, a row at a time, as the standard's state diagram has them."""
    found: list[dict[str, object]] = []
    active: dict[str, object] | None = None
    window: list[tuple[bool, int]] = []
    n_clear = 0
    for time, exceeds, clear, suppressed in zip(
        rows.time.tolist(), rows.exceeds.tolist(), rows.clear.tolist(), rows.suppressed.tolist(),
        strict=True,
    ):  # fmt: skip
        if suppressed:
            if active is not None:
                active |= {"closed": time, "state": SUPPRESSED}
            active, window = None, []
            continue
        window = [*window, (exceeds, time)][-rule.out_of :]
        over = [then for was, then in window if was]
        if active is not None:
            if exceeds:
                active |= {"end": time, "n_over": active["n_over"] + 1}
            n_clear = n_clear + 1 if clear else 0
            _announce(active, time, rule)
            if n_clear >= rule.clear_after:
                active |= {"closed": time, "state": LATCHED if rule.latched else ENDED}
                active, window = None, []
        elif exceeds and len(over) >= rule.raise_after:
            last = found[-1] if found else None
            if last is not None and (
                last["state"] == LATCHED
                or (last["state"] == ENDED and time - last["end"] <= rule.min_gap_s * 1e6)
            ):
                last |= {
                    "end": time, "n_over": last["n_over"] + len(over), "closed": None,
                    "state": ACTIVE, "n_raised": last["n_raised"] + 1,
                }  # fmt: skip
                active = last
            else:
                active = {
                    "start": over[0], "raised": time, "end": time, "n_over": len(over),
                    "closed": None, "state": ACTIVE, "n_raised": 1, "n_announced": 1,
                }  # fmt: skip
                found.append(active)
            _announce(active, time, rule)
            n_clear = 0
    return [Episode(**alarm) for alarm in found]


def _announce(alarm: dict[str, object], time: int, rule: AlarmRule) -> None:
    if rule.re_alarm_s:
        n = 1 + int((time - alarm["raised"]) // (rule.re_alarm_s * 1e6))
        alarm["n_announced"] = max(alarm["n_announced"], n)


def called_faulty(
    cells: list[float], series: list[int], *, stuck: int, missing: int
) -> list[str | None]:
    """What is wrong with a sensor in each row: so many rows of one series alike, or without value.

    NaN = missing.
    """
    found: list[str | None] = []
    for row, cell in enumerate(cells):
        alike = 1
        while (
            alike <= row
            and series[row - alike] == series[row]
            and (
                cells[row - alike] == cell or (math.isnan(cell) and math.isnan(cells[row - alike]))
            )
        ):
            alike += 1
        if math.isnan(cell):
            found.append("missing" if alike >= missing else None)
        else:
            found.append("stuck" if alike >= stuck else None)
    return found


Rows = list[tuple[str, float]]


def stretches(rows: Rows, flagged: list[bool], max_gap_s: float | None) -> list[list[int]]:
    """Row numbers of each longest run of flagged rows (asset, time) without a gap."""
    found: list[list[int]] = []
    for i, (asset, time) in enumerate(rows):
        joined = i > 0 and rows[i - 1][0] == asset
        if joined:
            limit = 10 * period_of(rows, asset) if max_gap_s is None else max_gap_s
            joined = time - rows[i - 1][1] <= limit
        if flagged[i]:
            if found and joined and found[-1][-1] == i - 1:
                found[-1].append(i)
            else:
                found.append([i])
    return found


def period_of(rows: Rows, asset: str) -> float:
    """Median seconds between the rows of an asset, or of all where it has but one."""
    pairs = [(a, b) for a, b in pairwise(rows) if a[0] == b[0]]
    own = [b[1] - a[1] for a, b in pairs if a[0] == asset]
    steps = own or [b[1] - a[1] for a, b in pairs]
    return float(np.median(steps)) if steps else 0.0


def event_counts(
    rows: Rows,
    label: list[int],
    alarms: list[tuple[str, float, float]],
    *,
    reach: int,
    max_gap_s: float | None,
) -> dict[str, float | list[float]]:
    """Alarms (asset, raised, end) against the faults in the labels, each alarm by itself."""
    whole = stretches(rows, [True] * len(rows), max_gap_s)
    lasts = {}
    for stretch in whole:
        for i in stretch:
            followed = i + 1 < len(rows) and rows[i + 1][0] == rows[i][0]
            step = rows[i + 1][1] - rows[i][1] if followed else math.inf
            lasts[i] = min(period_of(rows, rows[i][0]), step) if i == stretch[-1] else step
    faults = stretches(rows, [y > 0 for y in label], max_gap_s)
    owner: dict[int, int] = {}
    for number, fault in enumerate(faults):
        (stretch,) = (s for s in whole if fault[0] in s)
        for i in range(fault[0], fault[-1] + reach + 1):
            if i in stretch and not (label[i] > 0 and i not in fault):
                owner[i] = number
            if label[min(i, len(label) - 1)] > 0 and i not in fault:
                break
    delays = [math.inf] * len(faults)
    false = repeats = unjudged = 0
    for asset, raised, _ in sorted(alarms, key=lambda alarm: alarm[1]):
        (at,) = (
            i for i, row in enumerate(rows)
            if row[0] == asset and (row[1] == raised or row[1] <= raised < row[1] + lasts[i])
        )  # fmt: skip
        if at in owner:
            repeats += delays[owner[at]] < math.inf
            delays[owner[at]] = min(delays[owner[at]], raised - rows[faults[owner[at]][0]][1])
        elif label[at] == 0:
            false += 1
        else:
            unjudged += 1
    standing = 0
    for fault, delay in zip(faults, delays, strict=True):
        asset, begin = rows[fault[0]]
        under = any(a == asset and raised < begin < end for a, raised, end in alarms)
        standing += under and delay == math.inf
    normal = [i for i, y in enumerate(label) if y == 0 and i not in owner]
    return {
        "delays_s": delays, "n_false": false, "n_repeats": repeats, "n_unjudged": unjudged,
        "n_standing": standing, "normal_days": sum(lasts[i] for i in normal) / 86_400,
        "days": sum(lasts.values()) / 86_400,
    }  # fmt: skip


def leads(
    alarms: list[tuple[str, float, float]],
    failures: list[tuple[str, float]],
    *,
    horizon_s: float,
    max_pause_s: float,
) -> tuple[list[float], int]:
    """Time from the warning to each failure, and how many alarms are of none."""
    found, used = [], set()
    for asset, end in failures:
        before = [t for a, t in failures if a == asset and t < end]
        begin = max([end - horizon_s, *before])
        own = [alarm for alarm in alarms if alarm[0] == asset and begin <= alarm[1] < end]
        used |= set(own)
        standing = {end}
        while True:  # until nothing joins those that stand
            joined = {a[1] for a in own if any(a[2] + max_pause_s >= s for s in standing)}
            if joined <= standing:
                break
            standing |= joined
        found.append(end - min(standing))
    return found, len(set(alarms) - used)
