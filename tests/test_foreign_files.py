"""Files of torch and safetensors are read without running anything in them, and written so that their libraries read
them; whatever is wrong with one is one error."""

import io
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import foreign_checkpoints as foreign
import pytest
import safetensors.torch
import torch
from foreign_checkpoints import CTC

from wav2vec2 import CheckpointError, convert_checkpoint
from wav2vec2.sharing.converters.inert_pickles import plain
from wav2vec2.sharing.converters.lazy_tensors import MadeTensor
from wav2vec2.sharing.converters.safetensors_files import read_safetensors, write_safetensors, write_weights
from wav2vec2.sharing.converters.torch_file_writing import PickledObject, write_torch_file
from wav2vec2.sharing.converters.torch_files import read_torch_file

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


def samples() -> dict[str, torch.Tensor]:
    """Every type; empty, without directions, turned, a part of another, and one that shares values with it."""
    generator = torch.Generator().manual_seed(0)
    found = {str(dtype): (torch.randn(3, 5, generator=generator) * 40).to(dtype) for dtype in DTYPES}
    whole = torch.randn(6, 7, generator=generator)
    parts = {"whole": whole, "turned": whole.T, "part": whole[2:5, ::3], "shared": whole[1], "row": whole[:, 3]}
    return found | parts | {"empty": torch.empty(0, 4), "number": torch.tensor(3.5)}


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_those_that_torch_saved(zipped: bool, tmp_path: Path) -> None:
    saved = samples()
    content = {
        "model": saved,
        "others": [1, 2.5, None, True, "text", (3, 4)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save(content, tmp_path / "file.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch_file(tmp_path / "file.pt").content
    assert list(found["model"]) == list(saved) and plain(found["others"]) == [1, 2.5, None, True, "text", [3, 4]]
    for name, tensor in saved.items():
        read = found["model"][name]
        assert read.shape == tuple(tensor.shape) and read.dtype == tensor.dtype
        assert torch.equal(read.read(), tensor), name
    assert torch.equal(found["parameter"].read(), torch.ones(2))


def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    """With weights only, mapped into memory or not; values begin where they can be mapped."""
    saved = samples()
    plainly: dict[str, Any] = {"n": -5, "big": 2**40, "list": [1.5, None], "yes": True, "no": False, "text": "\u00e9"}
    model = {name: MadeTensor(one) for name, one in saved.items()}
    write_torch_file(tmp_path / "file.pt", {"model": model, **plainly})
    for mapped in (False, True):
        found = torch.load(tmp_path / "file.pt", weights_only=True, mmap=mapped)
        assert {name: one for name, one in found.items() if name != "model"} == plainly
        for name, tensor in saved.items():
            assert torch.equal(found["model"][name], tensor) and found["model"][name].dtype == tensor.dtype
    again = read_torch_file(tmp_path / "file.pt").content["model"]
    assert all(torch.equal(again[name].read(), tensor) for name, tensor in saved.items())
    with zipfile.ZipFile(tmp_path / "file.pt") as archive, (tmp_path / "file.pt").open("rb") as stream:
        assert archive.testzip() is None
        for entry in archive.infolist():
            stream.seek(entry.header_offset + 26)
            assert (entry.header_offset + 30 + sum(struct.unpack("<HH", stream.read(4)))) % 64 == 0, entry.filename


def test_an_object_of_fairseq_can_be_written_where_no_fairseq_is(tmp_path: Path) -> None:
    write_torch_file(tmp_path / "file.pt", PickledObject("fairseq.data.dictionary", "Dictionary", {"symbols": ["a"]}))
    with foreign.foreign_classes() as classes:
        found = torch.load(tmp_path / "file.pt", weights_only=False)
        assert type(found) is classes.Dictionary and found.symbols == ["a"]


def test_safetensors_are_the_librarys(tmp_path: Path) -> None:
    """Both ways, in one file and in several."""
    saved = {name: one.contiguous().clone() for name, one in samples().items()}
    safetensors.torch.save_file(saved, tmp_path / "theirs.safetensors", {"format": "pt"})
    write_safetensors(tmp_path / "ours.safetensors", {name: MadeTensor(one) for name, one in saved.items()})
    read = read_safetensors(tmp_path / "theirs.safetensors")
    loaded = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    for name, tensor in saved.items():
        assert torch.equal(read[name].read(), tensor) and torch.equal(loaded[name], tensor)
        assert read[name].dtype == loaded[name].dtype == tensor.dtype
    write_weights(tmp_path, {name: MadeTensor(one) for name, one in saved.items()}, shard=200)
    parts = [safetensors.torch.load_file(path) for path in sorted(tmp_path.glob("model-*.safetensors"))]
    assert len(parts) > 3 and all(len(part) == 1 or sum(one.nbytes for one in part.values()) <= 200 for part in parts)
    assert sorted(name for part in parts for name in part) == sorted(saved)


class Runs:
    """Pickled, it asks for a call of a function; loaded, that function has run."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.called = (function, given)

    def __reduce__(self) -> Any:
        return self.called


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.mkdir, "posix.mkdir"),
        (eval, ".*builtin.*eval"),
        (getattr, ".*builtin.*getattr"),
        (os.system, "posix.system"),
    ],
)
def test_a_pickle_runs_nothing(function: Any, named: str, zipped: bool, tmp_path: Path) -> None:
    """What it asks for is named. Wherever it stands, also in what nobody would have looked at."""
    mark = tmp_path / "was_here"
    given = {"mkdir": str(mark), "eval": f"__import__('os').mkdir({str(mark)!r})", "system": f"mkdir {mark}"}
    hidden = {"model": {}, "extra": [{"deep": Runs(function, given.get(function.__name__, str(mark)))}]}
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}.pt"
        torch.save(hidden, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=f"refused. Its pickle asks for {named}, which could run code"):
            convert_checkpoint(path, tmp_path / "ours")
    assert not mark.exists() and not (tmp_path / "ours").exists()


def archive_of(data: bytes, path: Path) -> Path:
    """A file of torch with this pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", b"\0" * 16)
    return path


#: The opcodes of a storage of four numbers, and of a tensor over it whose place, size and steps follow.
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
STORAGE = b"((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpuK\x04tQ"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("more than the storage has", TENSOR + STORAGE[1:] + b"K\0(K\5t(K\1t\x89}tR."),
        ("the same values over and over", TENSOR + STORAGE[1:] + b"K\0(J\0\0\0\x7ft(K\0t\x89}tR."),
        ("behind the storage", TENSOR + STORAGE[1:] + b"K\4(K\1t(K\1t\x89}tR."),
        ("before it", TENSOR + STORAGE[1:] + b"J\xff\xff\xff\xff(K\1t(K\1t\x89}tR."),
        ("a function with a state", b"ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\0\0\0__defaults__)sb."),
        ("a class with a state", b"cargparse\nNamespace\nN}X\7\0\0\0__new__K\1s\x86b."),
        ("an object that is called", b"cargparse\nNamespace\n)\x81)R."),
        ("numbers of objects beyond all", b"\x80\2K\1r\xff\xff\xff\x7f."),
        ("a length beyond all", b"\x80\4\x8e\xff\xff\xff\xff\xff\xff\xff\x0f."),
        ("a list without an end", b"(lK\1"),
        ("a registered extension", b"\x80\2\x82\1."),
        ("its own storage twice", b"(" + STORAGE + STORAGE.replace(b"K\x04tQ", b"K\5tQ") + b"t."),
    ],
)  # fmt: skip
def test_a_pickle_that_cannot_be_is_an_error(name: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{name.split()[0]}.pt: (truncated or )?corrupt"):
        read_torch_file(archive_of(data, tmp_path / f"{name.split()[0]}.pt"))


def test_the_pickles_above_fail_for_what_they_say(tmp_path: Path) -> None:
    """Without the fault, the same bytes are a tensor."""
    whole = TENSOR + STORAGE[1:] + b"K\1(K\3t(K\1t\x89}tR."
    assert torch.equal(read_torch_file(archive_of(whole, tmp_path / "file.pt")).content.read(), torch.zeros(3))


def test_archives_that_torch_does_not_write_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pressed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"N." * 99)
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", b"")
    with zipfile.ZipFile(tmp_path / "big.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"N.")
        archive.writestr("archive/byteorder", b"big")
    (tmp_path / "text.pt").write_text("no pickle at all")
    for name, said in {
        "pressed": "compressed",
        "other": "without data.pkl",
        "big": "big-endian",
        "text": "corrupt",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            read_torch_file(tmp_path / f"{name}.pt")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One file with a fault: bits that turned, bytes that are others, a piece that is missing or twice, an end."""
    changed = bytearray(data)
    kind = chance.randrange(5)
    place = chance.choice([chance.randrange(len(data)), chance.randrange(min(4000, len(data)))])
    if kind == 0:
        changed[place] ^= 1 << chance.randrange(8)
    elif kind == 1:
        for _ in range(chance.randrange(1, 30)):
            changed[(place + chance.randrange(200)) % len(data)] = chance.randrange(256)
    elif kind == 2:
        del changed[place : place + chance.randrange(1, 500)]
    elif kind == 3:
        changed[place:place] = changed[place : place + chance.randrange(1, 500)]
    else:
        del changed[place:]
    return bytes(changed)


def originals(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Small checkpoints of every origin and format, and what must be said of each."""
    found = []
    sizes: dict[str, Any] = {"conv_dim": (4,) * 7, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 4}
    for origin in foreign.ORIGINS:
        config = foreign.save(origin, folder / origin / "model.pt", "base", CTC, **sizes)
        (folder / origin / "letters.txt").write_text("\n".join(foreign.TOKENS))
        options = {"config": foreign.without_settings(config), "dictionary": folder / origin / "letters.txt"}
        found.append((folder / origin / "model.pt", options))
    old = folder / "old" / "model.pt"
    old.parent.mkdir()
    with foreign.foreign_classes() as classes:
        state = {"target_dictionary": foreign.holding(classes.Dictionary, symbols=foreign.TOKENS)}
        content = {
            "model": foreign.tensors("fairseq", config, CTC),
            "args": foreign.old_args(config),
            "task_state": state,
        }
        torch.save(content, old, _use_new_zipfile_serialization=False)
    found.append((old, {}))
    weights = {name: one.clone() for name, one in foreign.tensors("torchaudio", config, CTC).items()}
    (folder / "safe").mkdir()
    safetensors.torch.save_file(weights, folder / "safe" / "model.safetensors")
    found.append((folder / "safe" / "model.safetensors", found[2][1]))
    return found


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_checkpoints_give_values_or_one_error(count: int, tmp_path: Path) -> None:
    """Nothing but `CheckpointError`, and after it no folder; those that still convert are whole."""
    chance = random.Random(count)
    files = [(path, path.read_bytes(), options) for path, options in originals(tmp_path)]
    good = bad = 0
    for number in range(count):
        path, data, options = files[number % len(files)]
        path.write_bytes(mutated(data, chance))
        target = tmp_path / f"ours-{number}"
        try:
            convert_checkpoint(path, target, **options)
            good += 1
            assert (target / "model.safetensors").is_file() and (target / "vocab.json").is_file()
        except CheckpointError as error:
            bad += 1
            assert str(error) and not target.exists()
    assert good > count / 20 and bad > count / 4
    for path, data, options in files:
        path.write_bytes(data)
        convert_checkpoint(path, tmp_path / f"whole-{path.parent.name}", **options)


def test_the_reader_of_pickles_sees_what_pickletools_sees(tmp_path: Path) -> None:
    """A name that is put together from texts on the stack, as protocol 4 does, is refused as well."""
    stream = io.BytesIO()
    pickle.Pickler(stream, 4).dump(Runs(print, "text"))
    with pytest.raises(CheckpointError, match=r"asks for builtins.print, which could run code"):
        read_torch_file(archive_of(stream.getvalue(), tmp_path / "file.pt"))
