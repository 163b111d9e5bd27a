"""A folder for sherpa-onnx, which recognises speech on phones, in browsers and in a dozen languages of programming.

Its recogniser of Omnilingual models is one of any wav2vec 2.0 model with CTC: it normalises the samples, computes a
graph with the one input `x`, and writes the best tokens. What it does otherwise than Transformers is made up for:

- it adds 1e-5 to the variance where models were trained with 1e-7, which makes quiet recordings quieter still; of its
  variance v' = v / (v + 1e-5) the graph computes v, and from it the samples as the model knows them;
- its blank is token 0, so tokens change their order; special tokens, which no text holds, are left out.

Shapes: S samples, T frames, V tokens.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.int8_graph import quantise
from wav2vec2.export.onnx_graph import chosen_tokens, write_graph
from wav2vec2.export.onnx_session import OnnxSession
from wav2vec2.export.refusal import ExportError, library
from wav2vec2.export.targets import Array, Outputs, Precision, Runtime, check_names, only_one_file, only_text
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.versions import versions_of

_TOKENS = "tokens.txt"

#: What sherpa-onnx adds to the variance of a clip, and what Transformers adds.
_ITS_EPSILON, _OURS = 1e-5, 1e-7


class SherpaGraph(nn.Module):
    """Samples (B, S) as sherpa-onnx normalises them -> log-probabilities (B, T, V)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, S) -> (B, T, V)"""
        logits: Tensor = self.model(as_trained(x)).logits
        return logits.log_softmax(-1)


def as_trained(x: Tensor) -> Tensor:
    """Samples (B, S) of variance v / (v + 1e-5) with the variance v / (v + 1e-7)."""
    share = x.square().mean(1, keepdim=True)
    variance = _ITS_EPSILON * share / (1 - share).clamp(min=1e-6)
    return x * ((variance + _ITS_EPSILON) / (variance + _OURS)).sqrt()


class SherpaOnnxTarget:
    """Recognisers that were trained on normalised samples."""

    name = "sherpa-onnx"
    reads_settings = True
    files: Mapping[Precision, str] = {Precision.float32: "model.onnx", Precision.int8: "model.int8.onnx"}

    def refuse(self, checkpoint: Checkpoint) -> None:
        """Other heads, samples that are not normalised, tokens and files that it cannot read."""
        only_text(checkpoint, self.name)
        if not checkpoint.extractor.do_normalize:
            raise ExportError(
                f"{checkpoint.source}: do_normalize=False, but sherpa-onnx gives every clip zero mean and unit "
                "variance, and how loud it was is lost; the targets onnx, openvino and transformers.js take it"
            )
        odd = [token for token in checkpoint.written_tokens.values() if re.search(r"\s", token[1:]) or not token]
        if odd:
            raise ExportError(f"{checkpoint.source}: the token {odd[0]!r} cannot stand in a line of {_TOKENS}")
        only_one_file(checkpoint, "do not fit into one file of ONNX, and sherpa-onnx reads no second one")

    def write_settings(self, checkpoint: Checkpoint, folder: Path) -> None:
        """`tokens.txt`."""
        blank = checkpoint.processor.tokenizer.blank if checkpoint.processor else ""
        names = [blank, *checkpoint.written_tokens.values()]
        lines = [f"{name.replace(' ', '▁')} {number}\n" for number, name in enumerate(names)]
        with replaced_file(folder / _TOKENS) as stream:
            stream.write("".join(lines).encode())

    def write(self, checkpoint: Checkpoint, folder: Path, int8: bool) -> None:
        """`model.onnx` and, in 8 bits, `model.int8.onnx`."""
        rows = _rows(checkpoint)
        metadata = {
            "model_type": "omnilingual-asr",
            "vocab_size": str(len(rows)),
            "sample_rate": str(checkpoint.extractor.sampling_rate),
            "version": "1",
            "made_from": checkpoint.name,
        }
        axes: dict[str, list[str | int]] = {"logits": ["batch", "frames", len(rows)]}
        example = {"x": torch.randn(2, 9_000, generator=torch.Generator().manual_seed(0))}
        graph = folder / self.files[Precision.float32]
        with chosen_tokens(checkpoint.model, rows):
            write_graph(SherpaGraph(checkpoint.model), graph, example, axes, metadata)
        if int8:
            quantise(graph, folder / self.files[Precision.int8])

    def opened(self, checkpoint: Checkpoint, folder: Path, precision: Precision) -> Runtime:
        """In sherpa-onnx, on as many threads as torch has."""
        return SherpaRuntime(folder / self.files[precision], folder / _TOKENS, checkpoint.extractor.sampling_rate)

    def expected(self, checkpoint: Checkpoint, outputs: Mapping[str, Array]) -> Outputs:
        """Log-probabilities of the tokens that are there, in their order."""
        chosen = torch.from_numpy(outputs["logits"][:, _rows(checkpoint)])
        return {"logits": chosen.log_softmax(-1).numpy()}

    def notes(self, checkpoint: Checkpoint) -> list[str]:
        """Lengths and times."""
        notes = ["A clip is heard whole, so cut recordings of many minutes. One below 25 ms is not recognised."]
        if checkpoint.config.frames_per_logits != 1:
            notes.append(
                f"sherpa-onnx takes every frame for 20 ms; this model's are {20 * checkpoint.config.frames_per_logits} "
                "ms, so multiply its times."
            )
        return notes

    def usage(self, checkpoint: Checkpoint, name: str) -> str:
        """In Python and on the command line."""
        return "\n".join(
            [
                "```python",
                "import sherpa_onnx",
                "import soundfile",
                "",
                "recogniser = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(",
                '    model="model.onnx", tokens="tokens.txt"',
                ")",
                'samples, rate = soundfile.read("speech.wav", dtype="float32")  # one channel, any rate',
                "stream = recogniser.create_stream()",
                "stream.accept_waveform(rate, samples)",
                "recogniser.decode_stream(stream)",
                "print(stream.result.text.strip(), stream.result.timestamps)",
                "```",
            ]
        )


class SherpaRuntime:
    """Texts by sherpa-onnx itself. It shows no logits: those are ONNX Runtime's, of what sherpa-onnx gives a graph."""

    takes_batches = False

    def __init__(self, model: Path, tokens: Path, rate: int) -> None:
        threads = torch.get_num_threads()
        self._session, self._rate = OnnxSession(model, threads), rate
        check_names(self._session.inputs, self._session.outputs, ["x"], ["logits"])
        self._recogniser = library("sherpa_onnx", "sherpa-onnx").OfflineRecognizer.from_omnilingual_asr_ctc(
            model=str(model), tokens=str(tokens), num_threads=threads
        )
        self.what = f"sherpa-onnx {versions_of(['sherpa-onnx']).get('sherpa-onnx', '')}"

    def outputs(self, clips: Sequence[Array]) -> list[Outputs]:
        """What the graph gives for each clip, normalised as sherpa-onnx does."""
        given = [(clip - clip.mean()) / np.sqrt(clip.var() + np.float32(_ITS_EPSILON)) for clip in clips]
        return [{"logits": self._session.unmasked(clip)[0][0]} for clip in given]

    def texts(self, clips: Sequence[Array]) -> list[str]:
        """What the recogniser writes."""
        found = []
        for clip in clips:
            stream = self._recogniser.create_stream()
            stream.accept_waveform(self._rate, clip)
            self._recogniser.decode_stream(stream)
            found.append(str(stream.result.text))
        return found


def _rows(checkpoint: Checkpoint) -> list[int]:
    """The tokens of the graph, by their ids in the model: the blank first, no special ones."""
    return [checkpoint.blank, *checkpoint.written_tokens]
