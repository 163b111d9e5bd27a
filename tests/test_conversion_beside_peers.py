"""Models that were converted for fairseq, fairseq2 and torchaudio, loaded and run by their own classes.

`WAV2VEC2_PEERS` names a folder with their Python files, beside which nothing of theirs is needed:
`pip install --no-deps --target FOLDER torchaudio fairseq2 sentencepiece`, and `fairseq/` out of the archive of its
sources.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from foreign_checkpoints import ARCHITECTURES, CTC, PRETRAINING, TRUNK
from small_models import small_config, waveforms

import wav2vec2
from wav2vec2 import convert_checkpoint
from wav2vec2.configuration.frame_arithmetic import output_length

pytestmark = pytest.mark.slow

PEERS = os.environ.get("WAV2VEC2_PEERS", "")
PROBE = Path(__file__).parent / "support" / "peer_probe.py"
TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcd"]
LENGTHS = [6000, 4000]
CASES = [("fairseq", CTC), ("fairseq", PRETRAINING), ("fairseq2", CTC), ("fairseq2", PRETRAINING)]
CASES += [("torchaudio", CTC), ("torchaudio", TRUNK)]


def heard_by(model: Any, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Logits, projected frames, or frames, of stock or of this package."""
    with torch.inference_mode():
        if hasattr(model, "project_hid"):
            return model.project_hid(model.wav2vec2(values, attention_mask=mask)[0])  # type: ignore[no-any-return]
        return model(values, attention_mask=mask)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("peer", "kind"), CASES)
def test_their_own_classes_compute_the_same(peer: str, kind: str, architecture: str, tmp_path: Path) -> None:
    """In a padded batch of two lengths. Their group norm sees padding, so ours is told to see it as well."""
    if not (Path(PEERS) / peer).is_dir() or not PEERS:
        pytest.skip(f"WAV2VEC2_PEERS names no folder with {peer}")
    torch.manual_seed(0)
    config = small_config(architecture, vocab_size=len(TOKENS), padding_invariant_norm=False)
    model = getattr(wav2vec2, kind)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "ours")
    tokenizer = wav2vec2.Wav2Vec2CTCTokenizer({token: row for row, token in enumerate(TOKENS)})
    wav2vec2.Wav2Vec2Processor(wav2vec2.Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path / "ours")
    folder = convert_checkpoint(tmp_path / "ours", tmp_path / "theirs", peer).folder
    values, mask = waveforms(LENGTHS)
    torch.save({"values": values, "lengths": mask.sum(1)}, folder / "waveforms.pt")
    said = {"tokens": len(TOKENS) if kind == CTC else None, "masking": config.apply_spec_augment}
    (folder / "sizes.json").write_text(json.dumps(config.to_dict() | said))
    done = subprocess.run([sys.executable, str(PROBE), peer, PEERS, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = torch.load(folder / "outputs.pt")
    stock = getattr(transformers, kind).from_pretrained(tmp_path / "ours").eval()
    for found in (heard_by(model, values, mask), heard_by(stock, values, mask)):
        for row, length in enumerate(LENGTHS):
            frames = output_length(length, config)
            assert theirs[row, :frames].std() > 0.01
            torch.testing.assert_close(found[row, :frames], theirs[row, :frames], atol=1e-4, rtol=0)
