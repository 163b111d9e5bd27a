"""transformers.js itself, in a process of Node that lives as long as it is asked for outputs and texts.

Shapes: S samples of a clip, B clips, T frames, V tokens.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any
from weakref import finalize

import numpy as np
import torch

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.refusal import DisagreementError
from wav2vec2.export.targets import Array, Outputs, Precision, without_padding

#: What transformers.js calls the precisions.
_DTYPES = {Precision.float32: "fp32", Precision.int8: "q8"}

#: Seconds that a process has to end when nothing more is asked.
_PATIENCE = 10.0


def installed_for_node() -> tuple[str, str] | str:
    """The version of transformers.js and the folder it was found from, that is the current one; or what is missing."""
    node = shutil.which("node")
    if node is None:
        return "there is no `node` here"
    asked = "const p = require.resolve('@huggingface/transformers', {paths: [process.cwd()]});"
    asked += "const about = p.slice(0, p.lastIndexOf('dist')) + 'package.json';"
    asked += "console.log(JSON.parse(require('fs').readFileSync(about)).version)"
    ran = subprocess.run([node, "-e", asked], capture_output=True, text=True, check=False)
    if ran.returncode:
        return "`npm install --ignore-scripts @huggingface/transformers` was not done in the current folder"
    return ran.stdout.strip(), str(Path.cwd())


class NodeRuntime:
    """The pipeline of transformers.js, of a folder whose weights have such a precision, on as many threads as torch."""

    takes_batches = True

    def __init__(self, checkpoint: Checkpoint, folder: Path, precision: Precision, version: str, place: str) -> None:
        self.what, self._checkpoint = f"transformers.js {version} in Node", checkpoint
        self._clips = TemporaryDirectory()
        self._said = TemporaryFile("w+", errors="replace")  # noqa: SIM115
        script = (files("wav2vec2.export") / "recognise.cjs").read_text("utf-8")
        given = [str(folder.resolve()), _DTYPES[precision], str(torch.get_num_threads())]
        self._process = subprocess.Popen(
            ["node", "-e", script, *given],
            cwd=place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
        )
        finalize(self, _end, self._process, self._said, self._clips)

    def outputs(self, clips: Sequence[Array]) -> list[Outputs]:
        """What its processor and its model give for each clip of a batch, padded here."""
        with TemporaryDirectory() as place:
            found = Path(place) / "logits.f32"
            shape = self._asked({"logits": self._written(clips), "into": str(found)})
            logits = np.fromfile(found, "<f4").reshape(shape)  # (B, T, V)
        return without_padding(self._checkpoint, clips, [logits])

    def texts(self, clips: Sequence[Array]) -> list[str]:
        """What the pipeline writes."""
        return [str(self._asked({"text": self._written([clip])[0]})) for clip in clips]

    def _written(self, clips: Sequence[Array]) -> list[str]:
        """Files with the samples of clips, which are written over by those of the next."""
        names = [str(Path(self._clips.name) / f"{number}.f32") for number in range(len(clips))]
        for name, clip in zip(names, clips, strict=True):
            Path(name).write_bytes(clip.astype("<f4").tobytes())
        return names

    def _asked(self, request: dict[str, Any]) -> Any:
        """What the process answers."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line or json.dumps({"error": self._last_words()}))
        if "error" in answer:
            raise DisagreementError(f"transformers.js: {answer['error']}")
        return answer["found"]

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return lines[-1] if lines else f"node ended with {self._process.wait()} and without a word"


def _end(process: "subprocess.Popen[str]", said: IO[str], clips: "TemporaryDirectory[str]") -> None:
    """A process without input ends; one that does not is ended."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # it has ended already
                stream.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    said.close()
    clips.cleanup()
