"""Bundles: a round trip is exact, and every kind of damage is refused before anything is parsed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rheostat.data.errors import BundleError
from rheostat.router import bundle as bundles
from rheostat.router.bundle import MANIFEST, Bundle, NotCheckedError, check_canary, check_in_child, verify
from tests.router.conftest import known_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return known_bundle().save(tmp_path / "bundle")


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file and make the manifest agree, as a careless or hostile author would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def edit_header(folder: Path, **changes: object) -> None:
    header = json.loads((folder / "bundle.json").read_bytes()) | changes
    rewrite(folder, "bundle.json", json.dumps(header).encode())


def edit_arrays(folder: Path, **changes: np.ndarray) -> None:
    with np.load(folder / "arrays.npz") as stored:
        arrays = dict(stored) | {name.replace("__", "."): value for name, value in changes.items()}
    np.savez(folder / "scratch.npz", **arrays)
    content = (folder / "scratch.npz").read_bytes()
    (folder / "scratch.npz").unlink()
    rewrite(folder, "arrays.npz", content)


def test_round_trip_is_exact(folder):
    before, after = known_bundle(), Bundle.load(folder)
    assert after.actions == before.actions
    assert (after.version, after.encoder_id, after.metrics) == (before.version, before.encoder_id, before.metrics)
    np.testing.assert_array_equal(after.canary_p, before.canary_p)
    np.testing.assert_array_equal(after.predictor.p_correct(before.canary), before.predictor.p_correct(before.canary))
    np.testing.assert_allclose(after.held_out.reward, before.held_out.reward, atol=1e-6)
    check_canary(after)


def test_bundles_are_never_overwritten(folder):
    with pytest.raises(BundleError, match="never overwritten"):
        known_bundle().save(folder)


def test_failed_save_leaves_nothing_behind(tmp_path):
    broken = replace(known_bundle(), metrics={"bad": object()})
    with pytest.raises(TypeError):
        broken.save(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["bundle.json", "arrays.npz"])
def test_one_flipped_bit_is_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match="SHA-256"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["bundle.json", "arrays.npz"])
def test_truncated_and_missing_files_are_refused(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match="bytes"):
        Bundle.load(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match="missing"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["../outside.json", "/etc/passwd.json", "a\\b.json", "run.so", "model.pkl", ""])
def test_names_that_lead_out_or_run_are_refused(folder, name):
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = {"sha256": "", "bytes": 0}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="only"):
        verify(folder)


def test_links_are_refused(folder, tmp_path):
    (tmp_path / "elsewhere.json").write_bytes((folder / "bundle.json").read_bytes())
    (folder / "bundle.json").unlink()
    (folder / "bundle.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match="link"):
        Bundle.load(folder)


def test_files_the_manifest_does_not_list_are_refused(folder):
    (folder / "extra.so").write_bytes(b"\x7fELF")
    with pytest.raises(BundleError, match=r"extra\.so"):
        Bundle.load(folder)


def test_files_that_every_bundle_needs_must_be_listed(folder):
    (folder / MANIFEST).write_text(json.dumps({"schema_version": 1, "files": {}}))
    for path in ("bundle.json", "arrays.npz"):
        (folder / path).unlink()
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        verify(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema_version": 1}', b'{"schema_version": 1, "files": {"a.json": {}}}', b"[" * 100_000]
)
def test_unreadable_manifests_are_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest"):
        Bundle.load(folder)


def test_sizes_that_are_no_numbers_are_refused(folder):
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"]["bundle.json"]["bytes"] = "many"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="lacks sizes"):
        Bundle.load(folder)


def test_another_schema_version_is_refused(folder):
    manifest = json.loads((folder / MANIFEST).read_bytes()) | {"schema_version": 99}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="schema version 99"):
        Bundle.load(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": ["not an action"]},
        {"actions": ["a/cot@9", "b/cot@9"]},
        {"guard": {"limit": 0.5, "action": 9}},
        {"predictor": {"learners": ["pickle"], "weights": [1.0], "calibrator": "platt"}},
        {"predictor": {"learners": ["linear"], "weights": [1.0], "calibrator": "other"}},
        {"metrics": None},
    ],
)
def test_headers_that_do_not_fit_are_refused(folder, changes):
    edit_header(folder, **changes)
    with pytest.raises(BundleError, match="does not fit together"):
        Bundle.load(folder)


@pytest.mark.parametrize("value", [np.array([np.nan, 0, 0]), np.array([np.inf, 0, 0]), np.array(["text"] * 3)])
def test_arrays_of_other_than_finite_numbers_are_refused(folder, value):
    edit_arrays(folder, calibrator__slope=value)
    with pytest.raises(BundleError, match="finite"):
        Bundle.load(folder)


def test_pickled_arrays_are_refused(folder):
    edit_arrays(folder, calibrator__slope=np.array([{}, 1, 2], dtype=object))
    with pytest.raises(BundleError, match="pickle"):
        Bundle.load(folder)


def test_garbage_archives_are_refused(folder):
    rewrite(folder, "arrays.npz", b"PK\x03\x04 and nothing after")
    with pytest.raises(BundleError, match="does not fit together"):
        Bundle.load(folder)


def test_changed_predictions_fail_the_canary(folder):
    edit_arrays(folder, canary__p=np.full((2, 3), 0.5))
    with pytest.raises(BundleError, match="canary"):
        check_canary(Bundle.load(folder))


def test_child_passes_a_sound_bundle_and_reports_a_bad_one(folder):
    check_in_child(folder)
    edit_arrays(folder, canary__p=np.full((2, 3), 0.5))
    with pytest.raises(BundleError, match="canary rows"):
        check_in_child(folder)
    with pytest.raises(NotCheckedError, match="was not checked within"):
        check_in_child(folder, timeout_s=1e-3)


def test_garbage_booster_with_a_right_hash_ends_only_the_child(folder):
    rewrite(folder, "booster-0.txt", b"tree\nversion=v4\nnum_class=1\nTree=0\nnum_leaves=99\n")
    with np.load(folder / "arrays.npz") as stored:
        arrays = {"learner0__projection": np.eye(4), "learner0__action_features": np.ones((3, 1)), "canary__p": stored["canary.p"]}
    edit_arrays(folder, **arrays)
    edit_header(folder, predictor={"learners": ["boosted"], "weights": [1.0], "calibrator": "platt"})
    with pytest.raises(BundleError, match="in a child process"):
        check_in_child(folder)


def test_another_encoder_than_the_fitted_one_is_refused(monkeypatch):
    class Other:
        encoder_id = "plain:1"

    monkeypatch.setattr(bundles, "load_encoder", lambda name: Other())
    with pytest.raises(BundleError, match="plain:1"):
        _ = known_bundle().encoder
