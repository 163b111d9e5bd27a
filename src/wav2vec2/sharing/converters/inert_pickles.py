"""Pickles of torch, read without running anything that they ask for.

A pickle names functions and calls them. Here a name never imports anything: those of a short list become what stands
below, classes of fairseq and of its configuration files become records of their state, and every other name is refused
before anything is made of it. What comes out is texts, numbers, lists, `Entries`, `Record`s and tensors in their file.
"""

import io
import pickle
import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import torch

from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.lazy_tensors import StoredTensor, TensorFile

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
STORAGE_OF = {dtype: name for name, dtype in _STORAGES.items()}

#: Kept as records: settings of a run, its counters, and how omegaconf writes types down.
_RECORDS = frozenset(
    (
        *("argparse.Namespace", "typing.Any", "typing.Union", "typing.Optional", "operator.getitem", "torch.Size"),
        *("torch.device", "pathlib.PosixPath", "numpy.dtype", "_codecs.encode"),
        *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.float64"),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "tuple", "set")),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("int", "float", "str", "bool")),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("object", "type", "NoneType")),
    )
)
#: Modules any class of which is kept as a record; nothing of them is imported.
_RECORDED_MODULES = ("fairseq.", "fairseq2.", "omegaconf.")
_ENTRIES = ("collections.OrderedDict", "collections.defaultdict")

#: What a damaged pickle makes Python's reader raise.
_SURPRISES = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError, ImportError),
    *(UnicodeError, OverflowError, MemoryError, RecursionError, AssertionError),
)


class Record:
    """An object that was pickled: which class it is of, what that was called with, and its state."""

    class_name = ""
    given: tuple[Any, ...]
    state: Any

    def __new__(cls, *given: Any) -> "Record":
        """Note what the class was called with."""
        made = object.__new__(cls)
        made.given, made.state = given, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Entries(dict[Any, Any]):
    """A dictionary of any kind; whatever else it was given or is told of itself is left aside."""

    def __init__(self, *given: Any) -> None:
        super().__init__(given[0] if given and isinstance(given[0], list | dict) else ())

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    """So many `values` of one `dtype` in the piece `key`; as a name in the pickle it has no piece yet."""

    dtype: torch.dtype
    key: str = ""
    values: int = 0


class _Function:
    """A function that a pickle may call. It has no attributes that a pickle could change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *given: Any) -> Any:
        return self._call(*given)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


class InertUnpickler(pickle.Unpickler):
    """Reads one pickle of a file of torch. `storages` says afterwards which pieces its tensors lie in, and how many
    bytes those must have."""

    def __init__(self, stream: BinaryIO, file: TensorFile) -> None:
        super().__init__(stream, encoding="utf-8")
        self._stream = stream
        self._file = file
        self.storages: dict[str, int] = {}
        self._records: dict[str, type[Record]] = {}

    def read(self) -> Any:
        """What the pickle holds; a `CheckpointError` for one that is damaged, or that asks for what is not listed."""
        try:
            self._look_through()
            return self.load()
        except CheckpointError:
            raise
        except _SURPRISES as error:
            raise CheckpointError(
                f"{self._file.path}: truncated or corrupt ({type(error).__name__}: {error})"
            ) from error

    def _look_through(self) -> None:
        """Go over its operations without carrying out any: a name that is refused is refused before the first of them,
        and nothing asks for more memory than the pickle itself has."""
        start = self._stream.tell()
        with warnings.catch_warnings(action="ignore"):  # about texts that are written strangely
            for operation, argument, place in pickletools.genops(self._stream):
                if operation.name in ("GLOBAL", "INST"):
                    self.find_class(*str(argument).split(" ", 1))
                elif operation.name.endswith("PUT") and int(str(argument)) > (place or 0):
                    raise pickle.UnpicklingError("it numbers more objects than it has")
        self._stream.seek(start)

    def find_class(self, module: str, name: str, /) -> Any:
        """What stands in for a name."""
        full = f"{module}.{name}"
        if full == "torch._utils._rebuild_tensor_v2":
            return _Function(self._tensor)
        if full == "torch._utils._rebuild_parameter":
            return _Function(_first)
        if module == "torch" and name in _STORAGES:
            return _Storage(_STORAGES[name])
        if full in _ENTRIES:
            return Entries
        is_dtype = module == "torch" and isinstance(vars(torch).get(name), torch.dtype)
        if full in _RECORDS or is_dtype or full.startswith(_RECORDED_MODULES):
            return self._records.setdefault(full, type("Record", (Record,), {"class_name": full}))
        raise CheckpointError(
            f"{self._file.path}: refused. Its pickle asks for {full}, which could run code and which no checkpoint of "
            "these models needs; nothing was run. Save its state dict alone, and convert that"
        )

    def persistent_load(self, pid: Any, /) -> _Storage:
        """A storage, which a pickle of torch names in this way."""
        kind, storage, key, _, count, *view = pid
        whole = kind == "storage" and isinstance(storage, _Storage) and not any(view)
        if not (whole and isinstance(key, str) and type(count) is int and count >= 0):
            raise pickle.UnpicklingError("names a storage that is none")
        length = count * storage.dtype.itemsize
        if self.storages.setdefault(key, length) != length:
            raise pickle.UnpicklingError(f"storage {key} has two sizes")
        return _Storage(storage.dtype, key, count)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> StoredTensor:
        """A tensor over a part of a storage; a part that is not in it is refused, and so is one that repeats values."""
        numbers = [offset, *size, *stride] if isinstance(size, tuple) and isinstance(stride, tuple) else [-1]
        sound = isinstance(storage, _Storage) and all(type(number) is int and number >= 0 for number in numbers)
        if not sound or len(size) != len(stride):
            raise pickle.UnpicklingError("a tensor whose shape is none")
        tensor = StoredTensor(self._file, storage.key, storage.dtype, offset, size, stride)
        values = 1
        for count in size:
            values *= count
        if values > tensor.extent or offset + tensor.extent > storage.values:
            raise pickle.UnpicklingError(f"a tensor of shape {size} in a storage of {storage.values}")
        return tensor


def _first(*given: Any) -> Any:
    return given[0]


def unpickled(data: bytes | bytearray, file: TensorFile) -> tuple[Any, dict[str, int]]:
    """What a pickle in memory holds, and the storages that its tensors need."""
    reader = InertUnpickler(io.BytesIO(data), file)
    return reader.read(), reader.storages


def plain(value: Any, depth: int = 0) -> Any:
    """Settings as texts, numbers, lists and dictionaries, whichever classes they were pickled as.

    A Namespace is the dictionary of its attributes, a node of omegaconf what it holds, an enumeration its value; what
    has no such form is None.
    """
    if depth > 40 or isinstance(value, StoredTensor):
        return None
    if isinstance(value, Record):
        return plain(_content_of(value), depth + 1)
    if isinstance(value, Mapping):
        return {str(key): plain(entry, depth + 1) for key, entry in value.items() if isinstance(key, str | int)}
    if isinstance(value, list | tuple):
        return [plain(entry, depth + 1) for entry in value[:10_000]]
    return value if isinstance(value, str | int | float) else None


def _content_of(record: Record) -> Any:
    state = record.state[0] if isinstance(record.state, tuple) and record.state else record.state
    if record.class_name.startswith("omegaconf."):
        named = state if isinstance(state, Mapping) else {}
        return named.get("_content", named.get("_val"))
    if isinstance(state, Mapping):
        return state
    return record.given[0] if len(record.given) == 1 else None
