"""A package is what it was when sealed, or it is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from safetensors.torch import load_file, save_file
from sealed import CONTRACT, rows, seal

from vae_anomaly import ModelPackage
from vae_anomaly.errors import InputError, PackageError


def test_written_and_read_it_scores_bit_for_bit(tmp_path: Path) -> None:
    written = seal(tmp_path / "package")
    read = ModelPackage.read(tmp_path / "package")
    assert read.digest == written.digest
    assert read.contract == written.contract == CONTRACT
    for n in (1, 7, 1000):
        assert read.score(rows(n)).equals(written.score(rows(n)))


def test_temporal_backbone_scores_a_series_bit_for_bit_from_its_package(tmp_path: Path) -> None:
    """Whole, and cut with the rows that it needs before: of two pumps that take turns."""
    written = seal(tmp_path / "package", temporal=True)
    read = ModelPackage.read(tmp_path / "package")
    whole = written.score(rows(3000))
    assert read.score(rows(3000)).equals(whole)
    n_before = 2 * read.units["*"].scorer.left_context
    part = read.score(rows(3000).slice(1600))
    assert part["score"].slice(n_before).equals(whole["score"].slice(1600 + n_before))


def test_same_content_gives_the_same_digest(tmp_path: Path) -> None:
    assert seal(tmp_path / "a").digest == seal(tmp_path / "b").digest
    assert seal(tmp_path / "a").digest != seal(tmp_path / "c", fingerprint="0" * 64).digest


def test_nothing_in_it_can_run(tmp_path: Path) -> None:
    seal(tmp_path / "package")
    endings = {path.suffix for path in (tmp_path / "package").iterdir()}
    assert endings == {".json", ".safetensors"}
    for path in (tmp_path / "package").glob("*.safetensors"):
        head = path.read_bytes()[8:]
        assert head.startswith(b"{"), "a safetensors file begins with its JSON head"


def test_package_json_is_strict_json(tmp_path: Path) -> None:
    seal(tmp_path / "package")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "package/package.json").read_text(), parse_constant=refuse)


@pytest.mark.parametrize("kind", ["scorer", "golden", "calibration"])
def test_a_changed_byte_is_found(kind: str, tmp_path: Path) -> None:
    seal(tmp_path / "package")
    path = tmp_path / f"package/{kind}-0.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackageError, match=f"{kind}-0.safetensors has changed"):
        ModelPackage.read(tmp_path / "package")


def test_missing_file_and_missing_package_are_named(tmp_path: Path) -> None:
    seal(tmp_path / "package")
    (tmp_path / "package/golden-0.safetensors").unlink()
    with pytest.raises(PackageError, match=r"golden-0.safetensors is missing"):
        ModelPackage.read(tmp_path / "package")
    with pytest.raises(PackageError, match=r"holds no package.json"):
        ModelPackage.read(tmp_path)


def test_weights_that_score_otherwise_are_refused_by_the_golden_rows(tmp_path: Path) -> None:
    """The hashes are put right again, as a damaging tool would; the golden rows still tell."""
    seal(tmp_path / "package")
    weights = tmp_path / "package/scorer-0.safetensors"
    old = weights.read_bytes()
    tensors = load_file(weights)
    name = next(n for n in tensors if n.endswith("weight") and tensors[n].ndim == 2)
    save_file({**tensors, name: tensors[name] * 1.1}, weights)
    import hashlib

    text = (tmp_path / "package/package.json").read_text()
    swapped = text.replace(
        hashlib.sha256(old).hexdigest(), hashlib.sha256(weights.read_bytes()).hexdigest()
    )
    (tmp_path / "package/package.json").write_text(swapped)
    with pytest.raises(PackageError, match=r"golden row \d+ of '\*' scored"):
        ModelPackage.read(tmp_path / "package")


def test_later_format_is_refused(tmp_path: Path) -> None:
    seal(tmp_path / "package")
    path = tmp_path / "package/package.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99', 1))
    with pytest.raises(PackageError, match="package of format 99"):
        ModelPackage.read(tmp_path / "package")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": 1}'])
def test_damaged_package_json_is_said(text: str, tmp_path: Path) -> None:
    seal(tmp_path / "package")
    (tmp_path / "package/package.json").write_text(text)
    with pytest.raises(PackageError, match="damaged"):
        ModelPackage.read(tmp_path / "package")


def test_without_a_threshold_it_does_not_judge(tmp_path: Path) -> None:
    package = seal(tmp_path / "package", calibrated=False)
    with pytest.raises(PackageError, match="no threshold yet"):
        package.score(rows(3))


def test_rows_in_any_order_get_their_own_verdicts(tmp_path: Path) -> None:
    package = seal(tmp_path / "package")
    table = rows(200)
    mixed = np.random.default_rng(0).permutation(200)
    straight = package.score(table)["score"].to_numpy()
    assert_array_equal(
        package.score(table.take(pa.array(mixed)))["score"].to_numpy(), straight[mixed]
    )


def test_threshold_of_a_call_replaces_the_calibrated_one(tmp_path: Path) -> None:
    package = seal(tmp_path / "package")
    assert set(package.score(rows(50), threshold=-1.0)["status"].to_pylist()) <= {
        "anomaly",
        "not_scored",
    }
    assert "anomaly" not in package.score(rows(50), threshold=1e9)["status"].to_pylist()


def test_missing_column_is_named_with_the_closest(tmp_path: Path) -> None:
    package = seal(tmp_path / "package")
    table = rows(5).rename_columns(["when", "pump", "mode", "PT_101", "flow (RMS)", "speed"])
    with pytest.raises(InputError, match="'PT-101' is missing; did you mean 'PT_101'"):
        package.score(table)
    text = rows(2).set_column(3, "PT-101", pa.array(["x", "y"]))
    with pytest.raises(InputError, match="'PT-101' cannot be read as double"):
        package.score(text)


def test_columns_that_the_contract_does_not_name_are_left_alone(tmp_path: Path) -> None:
    package = seal(tmp_path / "package")
    table = rows(4)
    more = table.append_column("label", pa.array(["x"] * 4)).append_column(
        "row", pa.array(["y"] * 4)
    )
    assert package.score(more).equals(package.score(table))


def test_row_without_an_asset_is_judged_like_the_others(tmp_path: Path) -> None:
    package = seal(tmp_path / "package")
    table = rows(4).set_column(1, "pump", pa.array(["a", None, "a", None]))
    assert package.score(table).num_rows == 4


def test_sensor_that_is_no_number_is_said(tmp_path: Path) -> None:
    package = seal(tmp_path / "package")
    lists = rows(1).set_column(3, "PT-101", pa.array([[1.0]]))
    with pytest.raises(InputError, match="'PT-101' cannot be read as double"):
        package.score(lists)


def test_two_that_write_the_same_package_at_once_both_succeed(tmp_path: Path) -> None:
    def write(_: int) -> str:
        return seal(tmp_path / "package").digest

    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(write, range(12)))
    assert len(digests) == 1
    assert ModelPackage.read(tmp_path / "package").digest in digests
