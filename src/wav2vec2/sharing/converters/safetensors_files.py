"""Files of safetensors, read and written tensor by tensor.

The library maps the file it reads and wants all tensors of the file it writes at once; a model of 7 billion parameters
is larger than many memories. The format is plain: the length of a header, the header as JSON, the values.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.modeling.loading import CheckpointError, check_index
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, StoredTensor, TensorFile, raw_bytes

_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODE_OF = {dtype: code for code, dtype in _DTYPES.items()}
#: The library's own limit on headers.
_LONGEST_HEADER = 100_000_000
#: Bytes of a file, as stock Transformers divides a model.
_SHARD = 5_000_000_000

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_safetensors(path: Path) -> dict[str, LazyTensor]:
    """The tensors of a file, by name. What is damaged is a `CheckpointError`."""
    file = TensorFile(path)
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: Any = json.loads(stream.read(length)) if length <= _LONGEST_HEADER else None
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _tensor(file, name, entry, 8 + length) for name, entry in entries.items()}
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: truncated or corrupt ({type(error).__name__}: {error})") from error


def _tensor(file: TensorFile, name: str, entry: Any, start: int) -> StoredTensor:
    dtype, shape, (first, last) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, first, last)):
        raise ValueError(f"{name} has no shape or no place")
    if math.prod(shape) * dtype.itemsize != last - first:
        raise ValueError(f"{name} has another length than its shape")
    file.add(name, start + first, last - first)
    return StoredTensor.whole(file, name, dtype, tuple(shape))


def read_index(index: Path) -> list[Path]:
    """The files of a model in pieces, each of which lies in the folder of its index."""
    check_index(index.parent)
    pieces: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    files = [index.parent / name for name in sorted(set(pieces.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{index}: names files that are not there: {', '.join(missing)}")
    return files


def write_safetensors(path: Path, tensors: Mapping[str, LazyTensor]) -> None:
    """Write one file. Large types come first, so that each value begins at a multiple of its own size."""
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in ordered:
        tensor = tensors[name]
        start, end = end, end + _bytes_of(tensor)
        shape = list(tensor.shape)
        header[name] = {"dtype": _CODE_OF[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with replaced_file(path) as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in ordered:
            stream.write(raw_bytes(tensors[name].read()))


def write_weights(folder: Path, tensors: Mapping[str, LazyTensor], shard: int = _SHARD) -> None:
    """Write a model as stock Transformers does: one file, or several of at most `shard` bytes and their index."""
    shards: list[dict[str, LazyTensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if filled and filled + _bytes_of(tensor) > shard:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += _bytes_of(tensor)
    if len(shards) == 1:
        write_safetensors(folder / WEIGHTS, shards[0])
        return
    places: dict[str, str] = {}
    for number, part in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / file, part)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(map(_bytes_of, tensors.values()))}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _bytes_of(tensor: LazyTensor) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize
