"""A damaged file is one clear error, and no file can run code or lead out of its folder."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_folders import small_model, write, write_bin, write_shards
from safetensors.torch import load_file, save_file

from wav2vec2 import CheckpointError, Wav2Vec2ForCTC

Damage = Callable[[bytes], bytes]


def cut_in_half(content: bytes) -> bytes:
    """A download that stopped."""
    return content[: len(content) // 2]


def cut_at_the_end(content: bytes) -> bytes:
    """A download that nearly ended."""
    return content[:-1]


def emptied(content: bytes) -> bytes:
    """A disk that was full."""
    return b""


def garbage(content: bytes) -> bytes:
    """Something else altogether."""
    return bytes(range(256)) * 40


def a_web_page(content: bytes) -> bytes:
    """What a proxy gives instead of a file."""
    return b"<!DOCTYPE html><html><body>Too many requests</body></html>"


def a_large_file_pointer(content: bytes) -> bytes:
    """What git leaves without its large files."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 377664473\n"


DAMAGES = [cut_in_half, cut_at_the_end, emptied, garbage, a_web_page, a_large_file_pointer]


def assert_one_clear_error(source: Path, file: str | None = None) -> None:
    """The error is ours, says where and what, in one line that ends with what to do."""
    with pytest.raises(CheckpointError) as error:
        Wav2Vec2ForCTC.from_pretrained(source)
    message = str(error.value)
    assert str(source) in message and "truncated or corrupt" in message
    assert message.endswith("Fetch or write it again.")
    if file is not None:
        assert file in message


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_safetensors_file_is_one_error(damage: Damage, tmp_path: Path) -> None:
    """Whatever happened to it."""
    file = write(tmp_path, small_model()) / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    assert_one_clear_error(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bin_file_is_one_error(damage: Damage, tmp_path: Path) -> None:
    """Whatever happened to it."""
    file = write_bin(tmp_path, small_model()) / "pytorch_model.bin"
    file.write_bytes(damage(file.read_bytes()))
    assert_one_clear_error(tmp_path)


def test_a_header_that_promises_too_much_is_one_error(tmp_path: Path) -> None:
    """A length that no file has."""
    file = write(tmp_path, small_model()) / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 2**60) + file.read_bytes()[8:])
    assert_one_clear_error(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_one_error(damage: Damage, tmp_path: Path) -> None:
    """One of several files is enough."""
    shard = write_shards(tmp_path, small_model())[1]
    shard.write_bytes(damage(shard.read_bytes()))
    assert_one_clear_error(tmp_path)


BROKEN_INDICES = {
    "truncated": '{"metadata": {"total_size": 1}, "weight_map": {"lm_head.we',
    "empty": "",
    "a list": "[1, 2]",
    "without a map": "{}",
    "with numbers": '{"metadata": {}, "weight_map": {"lm_head.weight": 5}}',
}


@pytest.mark.parametrize("content", BROKEN_INDICES.values(), ids=BROKEN_INDICES)
def test_a_broken_index_is_one_error(content: str, tmp_path: Path) -> None:
    """The shards are fine, their list is not."""
    write_shards(tmp_path, small_model())
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="corrupt"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    """Names of files come from the checkpoint; what lies beside its folder is none of its business."""
    folder, outside = tmp_path / "model", tmp_path / "outside.safetensors"
    shards = write_shards(folder, small_model())
    file = folder / "model.safetensors.index.json"
    shards[1].rename(outside)
    file.write_text(file.read_text().replace(shards[1].name, "../outside.safetensors"))
    with pytest.raises(CheckpointError, match="outside"):
        Wav2Vec2ForCTC.from_pretrained(folder)


@pytest.mark.parametrize("content", ["", "{", "<html>"])
def test_a_damaged_configuration_is_an_error_that_names_it(content: str, tmp_path: Path) -> None:
    """Before any weights are looked at."""
    write(tmp_path, small_model())
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(OSError, match=r"config\.json"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path)


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    """As with stock's models."""
    small_model().config.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path)


class Trap:
    """Runs code when unpickled: makes a folder."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.where),)


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "plain"])
@pytest.mark.parametrize("nested", [False, True], ids=["instead_of_tensors", "beside_tensors"])
def test_a_pickle_cannot_run_code(old_format: bool, nested: bool, tmp_path: Path) -> None:
    """It is refused with one clear error, and nothing has happened."""
    sprung = tmp_path / "sprung"
    model = small_model()
    write_bin(tmp_path, model)
    content = {**model.state_dict(), "extra": Trap(sprung)} if nested else Trap(sprung)
    torch.save(content, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not old_format)
    assert_one_clear_error(tmp_path)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works


@pytest.mark.parametrize("refusal", [False, None, 0])
def test_weights_only_cannot_be_turned_off(refusal: Any, tmp_path: Path) -> None:
    """Neither by False nor by what counts as false."""
    folder = write_bin(tmp_path, small_model())
    with pytest.raises(ValueError, match="weights_only"):
        Wav2Vec2ForCTC.from_pretrained(folder, weights_only=refusal)
    assert Wav2Vec2ForCTC.from_pretrained(folder, weights_only=True) is not None


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.ones(3), {"model": {"lm_head.weight": torch.ones(32, 48)}, "epoch": 3}],
    ids=["a list", "a tensor", "a checkpoint of another library"],
)
def test_a_bin_file_without_tensors_is_one_error(content: Any, tmp_path: Path) -> None:
    """A file that torch can read, but that is no state dict."""
    write_bin(tmp_path, small_model())
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        Wav2Vec2ForCTC.from_pretrained(tmp_path)


def test_a_shape_that_the_file_does_not_hold_is_one_error(tmp_path: Path) -> None:
    """A header that does not agree with the bytes behind it."""
    file = write(tmp_path, small_model()) / "model.safetensors"
    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header["lm_head.weight"]["shape"] = [320, 48]
    changed = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + size :])
    assert_one_clear_error(tmp_path)


def test_safetensors_without_metadata_are_read(tmp_path: Path) -> None:
    """Files written by safetensors itself say nothing of their framework; that is no damage."""
    model = small_model()
    file = write(tmp_path, model) / "model.safetensors"
    save_file(load_file(file), file)
    state = Wav2Vec2ForCTC.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
