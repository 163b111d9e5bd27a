"""A folder for ONNX Runtime: the graph, and the files of the tokenizer and the feature extractor as they are."""

import json
from collections.abc import Mapping
from pathlib import Path

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.int8_graph import quantise
from wav2vec2.export.targets import Array, Outputs, Precision, Runtime, onnx_runtime, write_masked_graph
from wav2vec2.files.replaced_file import replaced_file

TOKENS = "tokens.json"


class OnnxTarget:
    """Any model: ONNX Runtime and whatever reads its files."""

    name = "onnx"
    reads_settings = False
    files: Mapping[Precision, str] = {Precision.float32: "model.onnx", Precision.int8: "model.int8.onnx"}

    def refuse(self, checkpoint: Checkpoint) -> None:
        """Nothing beyond what the exporter itself cannot write."""

    def write(self, checkpoint: Checkpoint, folder: Path, int8: bool) -> None:
        """`model.onnx`, in 8 bits `model.int8.onnx` beside it."""
        write_masked_graph(checkpoint, folder / self.files[Precision.float32])
        if int8:
            quantise(folder / self.files[Precision.float32], folder / self.files[Precision.int8])

    def write_settings(self, checkpoint: Checkpoint, folder: Path) -> None:
        """The files of the processor, and what each token writes."""
        write_processor(checkpoint, folder)

    def opened(self, checkpoint: Checkpoint, folder: Path, precision: Precision) -> Runtime:
        """In ONNX Runtime."""
        return onnx_runtime(checkpoint, folder / self.files[precision])

    def expected(self, checkpoint: Checkpoint, outputs: Mapping[str, Array]) -> Outputs:
        """The same."""
        return dict(outputs)

    def notes(self, checkpoint: Checkpoint) -> list[str]:
        """How inputs are made and what beyond a clip's end means."""
        config, notes = checkpoint.config, []
        if checkpoint.extractor.do_normalize:
            notes.append(
                "Every clip is normalised before it is padded: zero mean, unit variance, 1e-7 added to the variance."
            )
        else:
            notes.append("Clips are not normalised: samples in [-1, 1) as they are.")
        masked = "`attention_mask` is 1 for the samples of a clip and 0 behind them; padding stands on the right alone"
        if config.padding_invariant_norm:
            notes.append(f"{masked}, and changes nothing in the clip's own frames.")
        else:
            notes.append(f"{masked}. It changes what this model hears (`padding_invariant_norm`): give clips alone.")
        if checkpoint.writes_text and config.padding_invariant_norm:
            notes.append("Frames beyond a clip's end say blank; a clip shorter than one frame gives one such frame.")
        return notes

    def usage(self, checkpoint: Checkpoint, name: str) -> str:
        """With NumPy, soundfile and ONNX Runtime."""
        opened = ['session = onnxruntime.InferenceSession("model.onnx")']
        ran = "session.run(None, inputs)"
        return python_usage(checkpoint, "onnxruntime", opened, ran)


def python_usage(checkpoint: Checkpoint, module: str, opened: list[str], ran: str) -> str:
    """Lines of Python from a file of audio to what the model is for, for a graph with a mask."""
    rate, normalised = checkpoint.extractor.sampling_rate, checkpoint.extractor.do_normalize
    lines = [
        "import json",
        "from pathlib import Path",
        "",
        "import numpy as np",
        f"import {module}",
        "import soundfile",
        "",
        *opened,
    ]
    lines.append(f'samples, rate = soundfile.read("speech.wav", dtype="float32")  # mono, {rate} Hz')
    if normalised:
        lines.append("samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)")
    lines.append('inputs = {"input_values": samples[None], "attention_mask": np.ones((1, len(samples)), np.int64)}')
    names = list(checkpoint.head.outputs)
    lines.append(f"{', '.join(names)}{',' if len(names) == 1 else ''} = {ran}")
    if not checkpoint.writes_text:
        return _python([*lines, f"print({names[0]}.shape)"])
    return _python(
        [
            *lines,
            "best = logits[0].argmax(-1)",
            "best = best[np.append(True, best[1:] != best[:-1])]  # repeats are one token",
            f'tokens = json.loads(Path("{TOKENS}").read_text("utf-8"))  # all but the blank, {checkpoint.blank}',
            'text = "".join(tokens.get(str(token), "") for token in best)',
            'print(" ".join(text.split()))',
        ]
    )


def _python(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def write_processor(checkpoint: Checkpoint, folder: Path) -> None:
    """Configuration, feature extractor and tokenizer as they are; and what each token writes, by its id, for whoever
    reads paths without a tokenizer."""
    checkpoint.config.save_pretrained(folder)
    (checkpoint.processor or checkpoint.extractor).save_pretrained(folder)
    if checkpoint.writes_text:
        with replaced_file(folder / TOKENS) as stream:
            stream.write(json.dumps(checkpoint.written_tokens, ensure_ascii=False, indent=0).encode())
