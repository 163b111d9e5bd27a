"""Files of `torch.save`, of either format, opened without `torch.load`: tensors stay in the file.

Since torch 1.6 such a file is a zip archive without compression: `data.pkl` names the tensors, `data/<key>` holds the
values of one storage. Before that it was a row of pickles, then a list of storages, then each storage with its length.
"""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.inert_pickles import InertUnpickler, unpickled
from wav2vec2.sharing.converters.lazy_tensors import TensorFile

_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class TorchFile(NamedTuple):
    """What `torch.save` was given, as the `content` of the file `path`."""

    path: Path
    content: Any


def read_torch_file(path: Path) -> TorchFile:
    """Open one. What is damaged, or asks for code, is a `CheckpointError`."""
    file = TensorFile(path)
    with path.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        if start == b"PK\x03\x04":
            return TorchFile(path, _of_archive(file, stream))
        return TorchFile(path, _of_row(file, stream))


def _of_archive(file: TensorFile, stream: BinaryIO) -> Any:
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, UnicodeError, struct.error) as error:
        raise CheckpointError(f"{file.path}: truncated or corrupt ({type(error).__name__}: {error})") from error
    roots = [entry.filename.removesuffix("data.pkl") for entry in entries if entry.filename.endswith("/data.pkl")]
    if not roots:
        raise CheckpointError(f"{file.path}: is an archive without data.pkl, so none of torch.save")
    root = min(roots, key=len)
    for entry in entries:
        if entry.filename.startswith(root):
            _add_entry(file, stream, entry, entry.filename.removeprefix(root))
    if "byteorder" in file.pieces and bytes(file.piece("byteorder")) != b"little":
        raise CheckpointError(f"{file.path}: was written on a big-endian machine; load and save it with torch first")
    content, storages = unpickled(file.piece("data.pkl"), file)
    file.pieces = {key.removeprefix("data/"): place for key, place in file.pieces.items() if key.startswith("data/")}
    _require(file, storages)
    return content


def _add_entry(file: TensorFile, stream: BinaryIO, entry: zipfile.ZipInfo, name: str) -> None:
    """The piece of an entry begins behind its own header, whose length the directory does not say."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"{file.path}: {entry.filename} is compressed, which torch.save never does")
    stream.seek(max(entry.header_offset, 0))
    header = stream.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise CheckpointError(f"{file.path}: corrupt, no entry where {entry.filename} should begin")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    file.add(name, entry.header_offset + 30 + name_length + extra_length, entry.file_size)


def _of_row(file: TensorFile, stream: BinaryIO) -> Any:
    reader = InertUnpickler(stream, file)
    if reader.read() != _MAGIC_NUMBER:
        raise CheckpointError(f"{file.path}: is no file of torch.save (nor of safetensors)")
    if InertUnpickler(stream, file).read() != _PROTOCOL:
        raise CheckpointError(f"{file.path}: corrupt, or of a torch that is not known here")
    system = InertUnpickler(stream, file).read()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError(f"{file.path}: was written on a big-endian machine; load and save it with torch first")
    reader = InertUnpickler(stream, file)
    content = reader.read()
    keys = InertUnpickler(stream, file).read()
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in reader.storages for key in keys):
        raise CheckpointError(f"{file.path}: corrupt, its list of storages names others than its tensors")
    for key in keys:
        length = reader.storages[key]
        stream.seek(8, io.SEEK_CUR)  # how many values it has, which the pickle said too
        file.add(key, stream.tell(), length)
        stream.seek(length, io.SEEK_CUR)
    _require(file, reader.storages)
    return content


def _require(file: TensorFile, storages: dict[str, int]) -> None:
    """All storages are there, and as long as the pickle says."""
    for key, length in storages.items():
        if file.pieces.get(key, (0, -1))[1] < length:
            raise CheckpointError(f"{file.path}: truncated or corrupt, storage {key} is not there in full")
