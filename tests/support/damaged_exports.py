"""Exported folders in which something is wrong: files that are cut, settings and graphs that say something else."""

import json
import random
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

#: What no runtime reads: who reads it says so, or nobody does.
NOT_READ = ("README.md", "export.json")

VALUES: list[Any] = [None, -1, 0, 1, 1e300, "x", "", [], {}, True, 10**12, [1, "a"], "../../etc/passwd"]


def damage(folder: Path, seed: int) -> str:
    """Change one file of a folder, always the same for a seed, and say how."""
    chance = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_READ)
    graphs = [path for path in files if path.suffix == ".onnx"]
    if graphs and chance.random() < 0.4:
        path, change = chance.choice(graphs), chance.choice(GRAPH_WAYS)
        onnx = import_module("onnx")
        model = onnx.load(str(path), load_external_data=False)
        change(model, chance)
        path.write_bytes(model.SerializeToString())
        return f"{path.relative_to(folder)}: {change.__name__}"
    path = chance.choice(files)
    way = chance.choice(JSON_WAYS if path.suffix == ".json" and chance.random() < 0.6 else BYTE_WAYS)
    changed = way(path.read_bytes(), chance)
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    return f"{path.relative_to(folder)}: {way.__name__}"


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 4, 64])):
        changed[chance.choice([chance.randrange(len(changed)), chance.randrange(min(400, len(changed)))])] ^= (
            1 << chance.randrange(8)
        )
    return bytes(changed)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.choice([0, 1, len(content) // 2, len(content) - 1])]


def longer(content: bytes, chance: random.Random) -> bytes:
    return content + chance.randbytes(chance.choice([1, 1000, 2_000_000]))


def shifted(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + content[place + chance.randrange(1, 9) :]


def missing(content: bytes, chance: random.Random) -> None:
    """No file."""


def another(content: bytes, chance: random.Random) -> bytes:
    page = b"<!DOCTYPE html><html><body>Too many requests</body></html>"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 377664473\n"
    return chance.choice([page, pointer, b"[" * 100_000, b"NaN", b"{}", b"[]", b"\xff\xfe", chance.randbytes(5000)])


def lines_swapped(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def _objects(content: Any) -> list[dict[str, Any]]:
    """All objects with something in them, from outside to inside."""
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    own = [content] if isinstance(content, dict) and content else []
    return own + [found for one in inner for found in _objects(one)]


def _edited(
    change: Callable[[dict[str, Any], str, random.Random], None], content: bytes, chance: random.Random
) -> bytes:
    values = json.loads(content)
    place = chance.choice(_objects(values))
    change(place, chance.choice(list(place)), chance)
    return json.dumps(values, ensure_ascii=False).encode()


def value_changed(content: bytes, chance: random.Random) -> bytes:
    def change(place: dict[str, Any], name: str, chance: random.Random) -> None:
        place[name] = chance.choice([one for one in VALUES if one != place[name]])

    return _edited(change, content, chance)


def key_left_out(content: bytes, chance: random.Random) -> bytes:
    return _edited(lambda place, name, chance: place.pop(name), content, chance)


def key_added(content: bytes, chance: random.Random) -> bytes:
    return _edited(lambda place, name, chance: place.update({name + "x": place[name]}), content, chance)


def values_swapped(content: bytes, chance: random.Random) -> bytes:
    def change(place: dict[str, Any], name: str, chance: random.Random) -> None:
        other = chance.choice(list(place))
        place[name], place[other] = place[other], place[name]

    return _edited(change, content, chance)


BYTE_WAYS: list[Callable[[bytes, random.Random], bytes | None]] = [
    flipped, cut, longer, shifted, missing, another, lines_swapped,
]  # fmt: skip
JSON_WAYS = [value_changed, key_left_out, key_added, values_swapped]


def other_shape(model: Any, chance: random.Random) -> None:
    """Two sizes of a weight change places, or one is another."""
    dims = chance.choice([one for one in model.graph.initializer if len(one.dims) > 1]).dims
    if chance.random() < 0.6:
        dims[:] = list(reversed(dims))
    else:
        dims[chance.randrange(len(dims))] = chance.choice([0, -1, 1, 2**31, 2**62, 7])


def weight_gone(model: Any, chance: random.Random) -> None:
    del model.graph.initializer[chance.randrange(len(model.graph.initializer))]


def weight_elsewhere(model: Any, chance: random.Random) -> None:
    """In a file that is not there, or none of the folder's business."""
    one = chance.choice(model.graph.initializer)
    one.ClearField("raw_data")
    one.data_location = 1
    del one.external_data[:]
    names = ["gone.data", "/etc/passwd", "../model/config.json", "", "x" * 5000, "config.json", "/dev/zero"]
    places = {"location": chance.choice(names), "offset": chance.choice(["0", "-1", "x", "9" * 18]), "length": "400"}
    for key, value in places.items():
        entry = one.external_data.add()
        entry.key, entry.value = key, value


def other_values(model: Any, chance: random.Random) -> None:
    """Not numbers, or twice as large."""
    import numpy as np

    one = chance.choice([one for one in model.graph.initializer if one.data_type == 1 and one.raw_data])
    factor = chance.choice([np.nan, 2.0, 1e30, -1.0])
    one.raw_data = (np.frombuffer(one.raw_data, np.float32) * np.float32(factor)).tobytes()


def other_name(model: Any, chance: random.Random) -> None:
    chance.choice([*model.graph.input, *model.graph.output]).name = chance.choice(["x", "", "logits2", "input_values"])


def other_operation(model: Any, chance: random.Random) -> None:
    chance.choice(model.graph.node).op_type = chance.choice(
        ["Relu", "Neg", "MatMul", "Loop", "NoSuch", "Transpose", ""]
    )


def node_gone(model: Any, chance: random.Random) -> None:
    del model.graph.node[chance.randrange(len(model.graph.node))]


def other_attribute(model: Any, chance: random.Random) -> None:
    node = chance.choice([one for one in model.graph.node if one.attribute])
    one = chance.choice(node.attribute)
    one.i, one.f = chance.choice([-1, 0, 2, 3, 10**9]), chance.choice([-1.0, 0.0, 1e30])
    if one.ints:
        one.ints[chance.randrange(len(one.ints))] = chance.choice([-1, 0, 2, 10**9])


def other_input(model: Any, chance: random.Random) -> None:
    """A node takes what another one gives, perhaps itself."""
    node = chance.choice([one for one in model.graph.node if one.input])
    node.input[chance.randrange(len(node.input))] = chance.choice(chance.choice(model.graph.node).output)


def other_version(model: Any, chance: random.Random) -> None:
    if chance.random() < 0.5:
        model.ir_version = chance.choice([0, 1, 99, -1])
    else:
        model.opset_import[0].version = chance.choice([0, 1, 9, 99])


def other_type(model: Any, chance: random.Random) -> None:
    chance.choice(model.graph.initializer).data_type = chance.choice([0, 2, 7, 10, 99])


def no_metadata(model: Any, chance: random.Random) -> None:
    if chance.random() < 0.5:
        del model.metadata_props[:]
    for one in model.metadata_props:
        one.value = chance.choice(["", "x", "-1", "0", "99999999999999999999"])


GRAPH_WAYS: list[Callable[[Any, random.Random], None]] = [
    other_shape, weight_gone, weight_elsewhere, other_values, other_name, other_operation, node_gone, other_attribute,
    other_input, other_version, other_type, no_metadata,
]  # fmt: skip
