"""A folder for transformers.js, which recognises speech in browsers and in Node.

Its `tokenizer.json` holds a decoder of CTC paths. What that does otherwise than this package is made up for:

- it takes out special tokens before repeats are folded, so that a blank among them would turn "hello" into "helo":
  there are none in its table, and in the graph those of the model are never the best token;
- it puts a space for the word delimiter wherever that stands in the text, and an empty delimiter stands everywhere: a
  vocabulary without one gets a character that no token has;
- English punctuation is not "cleaned up" in texts.

Shapes: S samples of a clip.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.int8_graph import quantise
from wav2vec2.export.onnx_graph import chosen_tokens
from wav2vec2.export.refusal import ExportError
from wav2vec2.export.targets import (
    Array,
    Outputs,
    Precision,
    Runtime,
    only_one_file,
    only_text,
    onnx_runtime,
    write_masked_graph,
)
from wav2vec2.processing.tokenizer_files import write_json

_FILES = {Precision.float32: "model.onnx", Precision.int8: "model_quantized.onnx"}

#: What transformers.js calls the precisions.
_DTYPES = {Precision.float32: "fp32", Precision.int8: "q8"}

#: Clips that one process of Node recognises; each lies in a file meanwhile.
_AT_ONCE = 100


class TransformersJsTarget:
    """Recognisers in JavaScript."""

    name = "transformers.js"

    def refuse(self, checkpoint: Checkpoint) -> None:
        """Other heads, tokens that its table cannot tell apart, and files that no browser loads."""
        only_text(checkpoint, self.name)
        tokens = list(_table(checkpoint))
        if len(tokens) != len(checkpoint.written_tokens) + len(_silent(checkpoint)):
            raise ExportError(
                f"{checkpoint.source}: several of its tokens are written alike, which its table cannot hold"
            )
        only_one_file(checkpoint, "are more than a browser's memory for transformers.js")

    def write(self, checkpoint: Checkpoint, folder: Path, int8: bool) -> dict[Precision, list[str]]:
        """`onnx/model.onnx` and, in 8 bits, `onnx/model_quantized.onnx`; the tokenizer and all configurations."""
        graphs = folder / "onnx"
        graphs.mkdir()
        every = range(int(checkpoint.config.vocab_size or 0))
        with chosen_tokens(checkpoint.model, every, _silent(checkpoint)[1:]):
            write_masked_graph(checkpoint, graphs / _FILES[Precision.float32])
        if int8:
            quantise(graphs / _FILES[Precision.float32], graphs / _FILES[Precision.int8])
        checkpoint.config.save_pretrained(folder)
        write_json(
            folder / "preprocessor_config.json",
            checkpoint.extractor.to_dict() | {"processor_class": "Wav2Vec2Processor"},
        )
        blank = _names(checkpoint)[checkpoint.blank]
        settings = {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "pad_token": blank,
            "clean_up_tokenization_spaces": False,
        }
        write_json(folder / "tokenizer_config.json", settings | {"word_delimiter_token": _delimiter(checkpoint)})
        write_json(folder / "tokenizer.json", _tokenizer(checkpoint))
        return {p: [f"onnx/{name}"] for p, name in _FILES.items() if (graphs / name).is_file()}

    def opened(self, checkpoint: Checkpoint, folder: Path, precision: Precision) -> Runtime:
        """In Node, where that and transformers.js are there; else in ONNX Runtime alone."""
        inner = onnx_runtime(checkpoint, folder / "onnx" / _FILES[precision])
        found = installed_for_node()
        if isinstance(found, str):
            return inner
        runtime: Runtime = NodeRuntime(inner, folder, precision, found[0], found[1])
        return runtime

    def expected(self, checkpoint: Checkpoint, outputs: Mapping[str, Array]) -> Outputs:
        """The logits, in which special tokens are never the best."""
        logits = outputs["logits"].copy()
        logits[:, _silent(checkpoint)[1:]] = -1e4
        return {"logits": logits}

    def notes(self, checkpoint: Checkpoint) -> list[str]:
        """What was not checked, and what the pipeline does not do."""
        found = installed_for_node()
        unchecked = [f"transformers.js itself was not run: {found}."] if isinstance(found, str) else []
        return [
            *unchecked,
            "The pipeline hears a clip whole and gives no times; `model(inputs).logits` has a frame every "
            f"{20 * checkpoint.config.frames_per_logits} ms, from which they follow.",
        ]

    def usage(self, checkpoint: Checkpoint, name: str) -> str:
        """In a browser; in Node everything but the reading of the file is the same."""
        rate = checkpoint.extractor.sampling_rate
        return "\n".join(
            [
                "```js",
                'import { env, pipeline } from "@huggingface/transformers";',
                "",
                f'env.localModelPath = "models/";  // where this folder, {name}, is served',
                "env.allowLocalModels = true;",
                "env.allowRemoteModels = false;",
                'const task = "automatic-speech-recognition";',
                f'const recognise = await pipeline(task, {json.dumps(name)}, {{ dtype: "fp32" }});',
                'const bytes = await (await fetch("speech.wav")).arrayBuffer();',
                f"const audio = await new OfflineAudioContext(1, 1, {rate}).decodeAudioData(bytes);",
                "console.log((await recognise(audio.getChannelData(0))).text);",
                "```",
                "",
                'With `dtype: "q8"` it takes `model_quantized.onnx`, if that is there.',
            ]
        )


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
    """Texts by transformers.js itself; the logits by ONNX Runtime, from the same file."""

    takes_batches = True

    def __init__(self, inner: Runtime, folder: Path, precision: Precision, version: str, place: str) -> None:
        self._inner, self._folder, self._dtype, self._place = inner, folder.resolve(), _DTYPES[precision], place
        self.what = f"transformers.js {version} in Node"

    def outputs(self, clips: Sequence[Array]) -> list[Outputs]:
        """What the graph gives for each clip of a batch."""
        return self._inner.outputs(clips)

    def texts(self, clips: Sequence[Array]) -> list[str]:
        """What the pipeline writes."""
        found: list[str] = []
        for begin in range(0, len(clips), _AT_ONCE):
            found += self._recognised(clips[begin : begin + _AT_ONCE])
        return found

    def _recognised(self, clips: Sequence[Array]) -> list[str]:
        with TemporaryDirectory() as place, as_file(files("wav2vec2.export") / "recognise.cjs") as script:
            names = [str(Path(place) / f"{number}.f32") for number in range(len(clips))]
            for name, clip in zip(names, clips, strict=True):
                Path(name).write_bytes(clip.astype("<f4").tobytes())
            listing = Path(place) / "clips.json"
            listing.write_text(json.dumps({"folder": str(self._folder), "dtype": self._dtype, "files": names}))
            ran = subprocess.run(
                ["node", str(script), str(listing)], cwd=self._place, capture_output=True, text=True, check=False
            )
        if ran.returncode:
            raise ExportError(f"transformers.js: {(ran.stderr.strip() or 'ended without a word').splitlines()[-1]}")
        texts: list[str] = json.loads(ran.stdout.splitlines()[-1])
        return texts


def _silent(checkpoint: Checkpoint) -> list[int]:
    """The tokens that are in no text: the blank, then those that are never to be the best."""
    every = range(int(checkpoint.config.vocab_size or 0))
    return [checkpoint.blank, *(one for one in every if one not in (checkpoint.blank, *checkpoint.written_tokens))]


def _delimiter(checkpoint: Checkpoint) -> str:
    """What stands for a space in the table: "|", or a character for private use where that is a letter."""
    taken = "".join(checkpoint.written_tokens.values())
    return next(one for one in ("|", *map(chr, range(0xE000, 0xF8FF))) if one not in taken)


def _names(checkpoint: Checkpoint) -> dict[int, str]:
    """What stands in the table for each token of the model."""
    delimiter = _delimiter(checkpoint)
    names = {number: re.sub(r"\s", delimiter, text) for number, text in checkpoint.written_tokens.items()}
    return names | {number: f"<{number}>" for number in _silent(checkpoint)}


def _table(checkpoint: Checkpoint) -> dict[str, int]:
    return {name: number for number, name in sorted(_names(checkpoint).items())}


def _tokenizer(checkpoint: Checkpoint) -> dict[str, object]:
    """The content of `tokenizer.json`."""
    names, delimiter = _names(checkpoint), _delimiter(checkpoint)
    decoder = {"type": "CTC", "pad_token": names[checkpoint.blank], "word_delimiter_token": delimiter, "cleanup": True}
    nothing = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"))
    return {"version": "1.0", "added_tokens": [], "decoder": decoder, "model": {"vocab": _table(checkpoint)}} | nothing
