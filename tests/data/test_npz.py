"""Arrays come back as they were written, or it is said in one way that they do not."""

from __future__ import annotations

import numpy as np
import pytest

from rheostat.data.npz import read_npz


@pytest.fixture
def path(tmp_path):
    np.savez_compressed(tmp_path / "arrays.npz", a=np.arange(5_000), b=np.ones((2, 3), np.float32))
    return tmp_path / "arrays.npz"


def test_arrays_come_back_as_they_were_written(path):
    found = read_npz(path)
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["a"], np.arange(5_000))
    assert found["b"].dtype == np.float32


@pytest.mark.parametrize("at", [0, 1, 30, 100, 500, 1_000])
def test_a_file_cut_short_is_told_by_name(path, at):
    path.write_bytes(path.read_bytes()[:at])
    with pytest.raises(ValueError, match=r"arrays\.npz"):
        read_npz(path)


def test_a_changed_byte_is_told_like_any_other_damage_or_changes_no_number(path):
    whole, arrays = path.read_bytes(), read_npz(path)
    refused = 0
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = read_npz(path)
        except ValueError:
            refused += 1
        else:
            assert all(np.array_equal(found[name], arrays[name]) for name in found.keys() & arrays.keys())
    assert refused > 0


def test_what_is_no_npz_is_told_as_well(tmp_path):
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "text").write_text("a,b")
    for name in ("one.npy", "text", "missing"):
        with pytest.raises(ValueError, match=name):
            read_npz(tmp_path / name)
