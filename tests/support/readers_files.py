"""What the README's reader has: checkpoints under their names on the Hub, a recording, manifests with transcripts."""

from pathlib import Path

import soundfile
from finetuning_runs import write_labelled
from recognition_checkpoints import RATE, noise, save_checkpoint
from small_models import small_config

from wav2vec2 import Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining


def lay_out(folder: Path) -> None:
    """Small stand-ins. A folder of that name goes before the Hub."""
    save_checkpoint(folder / "facebook" / "wav2vec2-base-960h")
    pretrained = folder / "facebook" / "wav2vec2-base"
    Wav2Vec2ForPreTraining(small_config("base")).save_pretrained(pretrained)
    Wav2Vec2FeatureExtractor().save_pretrained(pretrained)
    soundfile.write(folder / "interview.mp3", noise(3), RATE, format="MP3")
    for name, first_seed in (("train", 1), ("dev", 100)):
        manifest = write_labelled(folder / name, [1.0] * 20, first_seed)
        rows = manifest.read_text("utf-8").replace("clip", f"{name}/clip")
        (folder / f"{name}.tsv").write_text(rows, "utf-8")
