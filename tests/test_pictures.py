"""The pictures of the documentation: one command makes them, from code and the data beside it; pages show them."""

import json
import math
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from documented_blocks import PAGES, ROOT

PICTURES = ROOT / "docs" / "pictures"
LARGEST = 100_000


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    command = [sys.executable, str(PICTURES / "draw.py"), "--output", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return folder


@pytest.mark.slow
def test_the_command_draws_what_is_committed(drawn: Path) -> None:
    """The same names, in the same size up to a line of letters; small enough for a repository."""
    names = {path.name for path in drawn.iterdir()}
    assert names == {path.name for path in PICTURES.glob("*.png")}
    for name in names:
        content = (drawn / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n") and 5_000 < len(content) < LARGEST
        assert 5_000 < (PICTURES / name).stat().st_size < LARGEST
        width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
        assert width == 990 and 200 < height < 600


def test_every_picture_is_shown_and_every_shown_one_is_there() -> None:
    shown = {name for page in PAGES for name in re.findall(r"\(pictures/([\w.]+)\)", page.read_text("utf-8"))}
    assert shown == {path.name for path in PICTURES.glob("*.png")}


def test_measured_data_is_what_the_pictures_say() -> None:
    """Curves have a point for each update, posteriors are probabilities, the collapsed model is collapsed."""
    data = {path.stem: json.loads(path.read_text("utf-8")) for path in (PICTURES / "data").glob("*.json")}
    for log in data["pretraining_curves"].values():
        assert len({len(column) for column in log.values()}) == 1 and log["update"] == sorted(log["update"])
    collapsed = data["pretraining_curves"]["collapsed"]
    assert min(collapsed["code_perplexity"][-1]) < 2 and abs(collapsed["bits"][-1] - math.log2(101)) < 0.05
    path = np.asarray(data["ctc_path"]["posteriors"])
    assert (path.sum(1) <= 1.01).all() and (path.max(1) > 0.1).all()
    tokens = data["ctc_path"]["tokens"]
    spelled = "".join(token for token, _ in groupby(tokens[best] for best in path.argmax(1)) if token != "<pad>")
    assert spelled.replace("|", " ").split()[0] == data["ctc_path"]["text"].split()[0]
    choice = data["contrastive_choice"]
    own = choice["similarities"][choice["frame"]][choice["frame"]]
    others = [value for value in choice["distractors"] if abs(value - own) > 0.01]
    assert len(choice["distractors"]) == 100 and max(others) < own
