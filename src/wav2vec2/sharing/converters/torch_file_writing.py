"""Files as `torch.save` writes them, tensor by tensor: never more than one is in memory.

The pickle is written by hand, so that it can hold an object of fairseq where no fairseq is.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.sharing.converters.inert_pickles import STORAGE_OF
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, raw_bytes, row_major

#: As in torch, values begin at multiples of it, so that a file may be mapped into memory.
_ALIGNMENT = 64
_ROOT = "archive"


class PickledObject(NamedTuple):
    """An object to be: the `module` and `name` of its class, and its `state`."""

    module: str
    name: str
    state: dict[str, Any]


def write_torch_file(path: Path, content: Any) -> None:
    """Write texts, numbers, None, lists, dictionaries, tensors and `PickledObject`s; `torch.load` reads them."""
    tensors: list[LazyTensor] = []
    pickle = io.BytesIO()
    pickle.write(b"\x80\x02")
    _put(pickle, content, tensors)
    pickle.write(b".")
    with replaced_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _entry(archive, stream, "data.pkl", memoryview(pickle.getvalue()))
        _entry(archive, stream, "byteorder", memoryview(b"little"))
        for key, tensor in enumerate(tensors):
            _entry(archive, stream, f"data/{key}", raw_bytes(tensor.read()))
        _entry(archive, stream, "version", memoryview(b"3\n"))


def _entry(archive: zipfile.ZipFile, stream: Any, name: str, data: memoryview) -> None:
    """One entry, whose header is filled up so that its data begin at a multiple of the alignment."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")
    header = 30 + len(info.filename) + 20  # 20: the sizes in 64 bits, which force_zip64 adds
    missing = -(stream.tell() + header + 4) % _ALIGNMENT
    info.extra = struct.pack("<HH", 0x4246, missing) + b"Z" * missing  # "FB", as torch calls its padding
    with archive.open(info, "w", force_zip64=True) as entry:
        for start in range(0, len(data), 1 << 24):
            entry.write(data[start : start + (1 << 24)])


def _put(out: io.BytesIO, value: Any, tensors: list[LazyTensor]) -> None:
    """One value, by the operations of pickle's protocol 2."""
    if value is None or isinstance(value, bool):
        out.write(b"N" if value is None else b"\x88" if value else b"\x89")
    elif isinstance(value, int):
        out.write(_whole_number(value))
    elif isinstance(value, float):
        out.write(b"G" + struct.pack(">d", value))
    elif isinstance(value, str):
        text = value.encode("utf-8")
        out.write(b"X" + struct.pack("<I", len(text)) + text)
    elif isinstance(value, Mapping):
        out.write(b"}(")
        for key, entry in value.items():
            _put(out, key, tensors)
            _put(out, entry, tensors)
        out.write(b"u")
    elif isinstance(value, list):
        out.write(b"](")
        for entry in value:
            _put(out, entry, tensors)
        out.write(b"e")
    elif isinstance(value, PickledObject):
        out.write(_name(value.module, value.name) + b")\x81")
        _put(out, value.state, tensors)
        out.write(b"b")
    else:
        _put_tensor(out, value, tensors)


def _put_tensor(out: io.BytesIO, tensor: LazyTensor, tensors: list[LazyTensor]) -> None:
    storage = _name("torch", STORAGE_OF[tensor.dtype])
    out.write(_name("torch._utils", "_rebuild_tensor_v2") + b"((")
    _put(out, "storage", tensors)
    out.write(storage)
    _put(out, str(len(tensors)), tensors)
    _put(out, "cpu", tensors)
    out.write(_whole_number(torch.Size(tensor.shape).numel()) + b"tQ" + _whole_number(0))
    for numbers in (tensor.shape, row_major(tensor.shape)):
        out.write(b"(" + b"".join(map(_whole_number, numbers)) + b"t")
    out.write(b"\x89" + _name("collections", "OrderedDict") + b")RtR")
    tensors.append(tensor)


def _whole_number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _name(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"
