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
from collections.abc import Mapping
from pathlib import Path

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.int8_graph import quantise
from wav2vec2.export.node_runtime import NodeRuntime, installed_for_node
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


class TransformersJsTarget:
    """Recognisers in JavaScript."""

    name = "transformers.js"
    reads_settings = True
    files: Mapping[Precision, str] = {
        Precision.float32: "onnx/model.onnx",
        Precision.int8: "onnx/model_quantized.onnx",
    }

    def refuse(self, checkpoint: Checkpoint) -> None:
        """Other heads, tokens that its table cannot tell apart, and files that no browser loads."""
        only_text(checkpoint, self.name)
        tokens = list(_table(checkpoint))
        if len(tokens) != len(checkpoint.written_tokens) + len(_silent(checkpoint)):
            raise ExportError(
                f"{checkpoint.source}: several of its tokens are written alike, which its table cannot hold"
            )
        only_one_file(checkpoint, "are more than a browser's memory for transformers.js")

    def write(self, checkpoint: Checkpoint, folder: Path, int8: bool) -> None:
        """`onnx/model.onnx` and, in 8 bits, `onnx/model_quantized.onnx`."""
        graph = folder / self.files[Precision.float32]
        graph.parent.mkdir()
        every = range(int(checkpoint.config.vocab_size or 0))
        with chosen_tokens(checkpoint.model, every, _silent(checkpoint)[1:]):
            write_masked_graph(checkpoint, graph)
        if int8:
            quantise(graph, folder / self.files[Precision.int8])

    def write_settings(self, checkpoint: Checkpoint, folder: Path) -> None:
        """The tokenizer and all configurations."""
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

    def opened(self, checkpoint: Checkpoint, folder: Path, precision: Precision) -> Runtime:
        """In Node, where that and transformers.js are there; else in ONNX Runtime alone."""
        found = installed_for_node()
        if isinstance(found, str):
            return onnx_runtime(checkpoint, folder / self.files[precision])
        return NodeRuntime(checkpoint, folder, precision, *found)

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
