"""Archives give back what was saved, or say what is wrong with them."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mev_engine.market import archive
from numpy.typing import NDArray

DTYPES = st.sampled_from(["<i4", "<i8", "<f8", "|b1", "|u1", ">u2", "<U5", "|S3"]).map(np.dtype)
ARRAYS = st.dictionaries(
    st.text(max_size=8), DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0)))
)
META = st.dictionaries(
    st.text(max_size=8), st.recursive(st.integers() | st.text(max_size=5) | st.none(), st.lists, max_leaves=5)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


def example(path: Path) -> dict[str, NDArray[Any]]:
    arrays = {
        "edges": np.arange(60, dtype=np.int32).reshape(15, 4),
        "empty": np.empty((0, 3), dtype=np.int32),
        "depth": np.linspace(0.0, 1.0, 21),
        "live": np.arange(13) % 3 == 0,
    }
    archive.save(path, arrays, {"block": 17, "wei": 2**100})
    return arrays


@settings(max_examples=150, deadline=None)
@given(arrays=ARRAYS, meta=META)
def test_what_is_saved_comes_back(
    folder: Path, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]
) -> None:
    # fails on a lost shape, byte order, name or empty array, and on arrays that kernels can't take
    archive.save(folder / "a", arrays, meta)
    loaded, got = archive.load(folder / "a")
    assert got == meta
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.c_contiguous
        assert loaded[name].flags.writeable
    assert [file.name for file in folder.iterdir()] == ["a"]


def test_arrays_can_be_mapped(tmp_path: Path) -> None:
    # fails if an array isn't where the header says, or not at a multiple of 64 bytes
    path = tmp_path / "a"
    arrays = example(path)
    arrays["columns"] = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    archive.save(path, arrays, {})
    raw = path.read_bytes()
    end = 24 + struct.unpack_from("<Q", raw, 12)[0]
    for name, entry in json.loads(raw[24:end])["arrays"].items():
        offset = -(-end // 64) * 64 + entry["offset"]
        assert offset % 64 == 0
        if arrays[name].size:
            mapped = np.memmap(path, entry["dtype"], "r", offset, tuple(entry["shape"]))
            np.testing.assert_array_equal(mapped, arrays[name])


def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    # fails if a byte of prefix, header, gap or array is outside of every check
    path, broken = tmp_path / "whole", tmp_path / "broken"
    example(path)
    raw = path.read_bytes()
    for i in range(len(raw)):
        broken.write_bytes(raw[:i] + bytes([raw[i] ^ (1 << i % 8)]) + raw[i + 1 :])
        with pytest.raises(archive.ArchiveError, match=r"broken can't be loaded: .*; "):
            archive.load(broken)
        broken.write_bytes(raw[:i])
        with pytest.raises(archive.ArchiveError, match=r"broken can't be loaded: .*; "):
            archive.load(broken)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_damage_is_found(folder: Path, data: st.DataObject) -> None:
    # fails if damage to several places, moved or doubled blocks pass, or end in another exception
    path = folder / "damaged"
    example(path)
    raw = bytearray(path.read_bytes())
    whole = bytes(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 200))
        match data.draw(st.sampled_from(["write", "insert", "cut", "copy"])):
            case "write":
                raw[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
            case "insert":
                raw[at:at] = data.draw(st.binary(max_size=length))
            case "cut":
                del raw[at : at + length]
            case "copy":
                other = data.draw(st.integers(0, len(raw)))
                raw[other : other + length] = raw[at : at + length]
    path.write_bytes(raw)
    if bytes(raw) == whole:
        archive.load(path)
    else:
        with pytest.raises(archive.ArchiveError):
            archive.load(path)
    path.unlink()


def sealed(header: bytes, version: int = archive.VERSION) -> bytes:
    prefix = struct.pack("<8sIQ", archive.MAGIC, version, len(header))
    return prefix + struct.pack("<I", zlib.crc32(prefix + header)) + header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with b''.*name a file"),
        (b"PK\x03\x04 something else entirely", "begins with .*not b'MEVARRAY'; name a file"),
        (sealed(b"{}", version=2), "version 2, .* up to 1; .*newer mev-engine"),
        (sealed(b"{}", version=0), "version 0, which there never was; restore"),
        (sealed(b"{}")[:20], "cut off after 20 bytes, within its first 24; restore"),
        (sealed(b"{}")[:-1], "cut off within its header of 2 bytes; restore"),
        (sealed(b"{}")[:12] + bytes(12), "header differs from its checksum; restore"),  # CRC-32 of nothing: 0
        (sealed(b"{}")[:-1] + b"x", "header differs from its checksum; restore"),
    ],
)
def test_each_fault_is_named_with_its_mend(tmp_path: Path, content: bytes, message: str) -> None:
    # fails if one fault is taken for another, whose mend doesn't help
    path = tmp_path / "some.archive"
    path.write_bytes(content)
    with pytest.raises(archive.ArchiveError, match=f"some.archive can't be loaded: .*{message}"):
        archive.load(path)


def test_faults_among_the_arrays_are_named(tmp_path: Path) -> None:
    # fails if the message doesn't say which array, or how much is missing
    path = tmp_path / "a"
    example(path)
    raw = path.read_bytes()
    for content, message in (
        (raw + b"\0\0", "2 bytes follow the archive's end"),
        (raw[:-5], f"cut off after {len(raw) - 5} of {len(raw)} bytes"),
        (raw[:-1] + b"\7", "array live differs from its checksum"),
        (raw[:-14] + b"\7" + raw[-13:], "gap before array live"),
    ):
        path.write_bytes(content)
        with pytest.raises(archive.ArchiveError, match=message):
            archive.load(path)


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # fails if a failed save costs the last good archive, or leaves half of one behind
    path = tmp_path / "a"
    example(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="array a has dtype object"):
        archive.save(path, {"a": np.array([1, "x"], dtype=object)}, {})
    for meta in ({"a": {1, 2}}, {"a": float("nan")}):
        with pytest.raises(ValueError, match="meta isn't JSON"):
            archive.save(path, {}, meta)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        archive.save(path, {"a": np.arange(9)}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == before
