"""Named numpy arrays and a JSON header in one file: a market that loads in a fraction of a second.

    bytes 0-7    magic "MEVARRAY"
          8-11   format version, uint32
          12-19  length of the header in bytes, uint64
          20-23  CRC-32 of the bytes before and of the header
          24-    header, JSON: {"meta": {...}, "arrays": {name: {"dtype", "shape", "offset", "crc32"}},
                 "size": bytes of all arrays with the gaps between them}
    then the arrays, each at its offset from the first multiple of 64 bytes after the header, and
    offsets being multiples of 64, so that a file could be mapped; zeros between.

Integers are little-endian. Every byte is checked: magic and version by value, header and arrays by
their CRC-32, gaps for being zero, the length by the header. A CRC finds all that a disk or a
transfer does by accident (bursts of up to 32 bits always, others but for one in 4 billion); it is no
protection from someone who means to forge. It runs at memory speed where a cryptographic hash would
take longer than the reading.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

MAGIC = b"MEVARRAY"
VERSION = 1
ALIGNMENT = 64
_PREFIX = struct.Struct("<8sIQ")
_CHECKSUM = struct.Struct("<I")
_START = _PREFIX.size + _CHECKSUM.size
_CHUNK = 1 << 20  # read and checksummed in turn, so that the second finds the bytes in the cache
_KINDS = "biufSU"  # of dtypes without Python objects or fields
_MEND = "restore the file from a copy, or have it written anew"


class ArchiveError(ValueError):
    """A file that isn't a whole archive; names the file, what is wrong, and the mend."""


def save(path: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write `arrays` and `meta` (which comes back as JSON has it) to `path`, all or nothing.

    The file appears under its name when it is whole and on disk; one that was there is replaced.
    ValueError on an array of objects or records, or on `meta` that isn't JSON; OSError as the disk has it.
    """
    parts = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    entries: dict[str, dict[str, Any]] = {}
    size = 0
    for name, array in parts.items():
        if array.dtype.kind not in _KINDS:
            raise ValueError(
                f"array {name} has dtype {array.dtype}: store plain numbers, flags or strings instead"
            )
        offset, checksum = _aligned(size), zlib.crc32(_bytes(array))
        entries[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset, "crc32": checksum}
        size = offset + array.nbytes
    try:
        text = json.dumps({"meta": dict(meta), "arrays": entries, "size": size}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"meta isn't JSON ({error}): give finite numbers, strings, lists, dicts") from error
    header = text.encode()
    prefix = _PREFIX.pack(MAGIC, VERSION, len(header))
    start = _aligned(_START + len(header))
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(prefix + _CHECKSUM.pack(zlib.crc32(prefix + header)) + header)
            for name, array in parts.items():
                file.write(bytes(start + entries[name]["offset"] - file.tell()))
                file.write(_bytes(array))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)  # the rename itself must be on disk too
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays, contiguous and writable, and the meta of `path`.

    ArchiveError on anything but a whole archive of a known version; OSError where it can't be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = _read_header(path, file, size)
        start = _aligned(file.tell())
        expected = start + header["size"] if header["arrays"] else file.tell()
        if size > expected:
            _fail(path, f"{size - expected} bytes follow the archive's end", _MEND)
        if size < expected:
            _fail(path, f"it is cut off after {size} of {expected} bytes", _MEND)
        arrays: dict[str, NDArray[Any]] = {}
        for name, entry in header["arrays"].items():
            if any(file.read(start + entry["offset"] - file.tell())):
                _fail(path, f"the gap before array {name} holds other bytes than zeros", _MEND)
            arrays[name] = np.empty(entry["shape"], dtype=entry["dtype"])
            if _read_into(file, arrays[name]) != entry["crc32"]:
                _fail(path, f"array {name} differs from its checksum", _MEND)
    return arrays, header["meta"]


def _read_header(path: Path, file: io.BufferedReader, size: int) -> dict[str, Any]:
    prefix = file.read(_PREFIX.size)
    if prefix[: len(MAGIC)] != MAGIC[: len(prefix)] or not prefix:
        _fail(
            path, f"it begins with {prefix[: len(MAGIC)]!r}, not {MAGIC!r}", "name a file written by `save`"
        )
    if size < _START:
        _fail(path, f"it is cut off after {size} bytes, within its first {_START}", _MEND)
    _, version, length = _PREFIX.unpack(prefix)
    if version > VERSION:
        mend = "read it with a newer mev-engine, or have it written anew"
        _fail(path, f"its format is version {version}, and this engine reads up to {VERSION}", mend)
    if version < 1:
        _fail(path, f"its format is version {version}, which there never was", _MEND)
    if length > size - _START:
        _fail(path, f"it is cut off within its header of {length} bytes", _MEND)
    (checksum,) = _CHECKSUM.unpack(file.read(_CHECKSUM.size))
    raw = file.read(length)
    if zlib.crc32(prefix + raw) != checksum:
        _fail(path, "the header differs from its checksum", _MEND)
    header: dict[str, Any] = json.loads(raw)
    return header


def _read_into(file: io.BufferedReader, array: NDArray[Any]) -> int:
    """Fill the array; its CRC-32."""
    view, checksum = _bytes(array), 0
    for start in range(0, len(view), _CHUNK):
        part = view[start : start + _CHUNK]
        file.readinto(part)
        checksum = zlib.crc32(part, checksum)
    return checksum


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _bytes(array: NDArray[Any]) -> memoryview:
    """A contiguous array's memory."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _fail(path: Path, what: str, mend: str) -> NoReturn:
    raise ArchiveError(f"{path} can't be loaded: {what}; {mend}")
