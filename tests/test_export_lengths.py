"""Every runtime gives stock's logits, from the shortest clip that has a frame to 15 seconds, alone and padded."""

import os
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from recognition_checkpoints import noise, save_checkpoint

from wav2vec2.export import export_model
from wav2vec2.export.checkpoint import load_checkpoint
from wav2vec2.export.exporting import TARGETS
from wav2vec2.export.onnx_session import padded
from wav2vec2.export.targets import Precision

for module in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(module, reason=f"{module}, of the extra `export`, is not installed")

pytestmark = pytest.mark.slow

Array = NDArray[np.float32]

#: Samples: one frame, one more, all but one of two frames, a second, and what a recipe cuts recordings to.
LENGTHS = (400, 401, 719, 16_000, 240_000)

#: Modules beyond ONNX Runtime.
NEEDED = {"sherpa-onnx": "sherpa_onnx", "openvino": "openvino"}


#: One of the two norms in each.
CASES = [("onnx", "large_lv60k"), ("sherpa-onnx", "base"), ("transformers.js", "large_lv60k"), ("openvino", "base")]


@pytest.mark.parametrize(("target", "architecture"), CASES)
def test_every_length_alone_and_padded(
    target: str, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the mask each clip of a batch is as alone; with a mask of ones padding is heard, as stock hears it without.
    All seven convolutions of the published models. The texts are the runtime's own."""
    if target in NEEDED:
        pytest.importorskip(NEEDED[target], reason=f"{NEEDED[target]}, an extra, is not installed")
    place = save_checkpoint(tmp_path / "model", architecture=architecture, num_hidden_layers=1)
    monkeypatch.chdir(os.environ.get("WAV2VEC2_NODE", tmp_path))
    folder = export_model(place, target, tmp_path / "out").folder
    checkpoint = load_checkpoint(str(place))
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(place).eval()
    clips = [noise(length / 16_000, length) for length in LENGTHS]
    assert tuple(map(len, clips)) == LENGTHS
    values, mask = padded([checkpoint.values(clip) for clip in clips])
    with torch.inference_mode():
        alone = [
            stock(torch.from_numpy(row[None, :length])).logits[0].numpy()
            for row, length in zip(values, LENGTHS, strict=True)
        ]
        unmasked = stock(torch.from_numpy(values)).logits.numpy()
    wanted = [TARGETS[target].expected(checkpoint, {"logits": one})["logits"] for one in alone]
    runtime = TARGETS[target].opened(checkpoint, folder, Precision.float32)
    for right, clip in zip(wanted, clips, strict=True):
        assert_same(runtime.outputs([clip])[0]["logits"], right)
    assert [" ".join(text.split()) for text in runtime.texts(clips)] == [checkpoint.text(one) for one in alone]
    if runtime.takes_batches:
        for row, found in enumerate(runtime.outputs(clips)):
            assert_same(found["logits"], wanted[row])
    if target == "onnx":
        (found_unmasked,) = (
            import_module("onnxruntime")
            .InferenceSession(str(folder / "model.onnx"))
            .run(None, {"input_values": values, "attention_mask": np.ones_like(mask)})
        )
        assert_same(found_unmasked, unmasked)


def assert_same(found: Array, right: Array) -> None:
    """Within 1e-4; a token that is silenced is that in both."""
    assert found.shape == right.shape
    heard = found > -5e3
    np.testing.assert_allclose(found[heard], right[heard], atol=1e-4, rtol=0)
