"""Can a tiny model learn ten sentences by heart? If not, something between audio, text, loss and decoding is wrong.

    python examples/studies/overfit_ten.py --data ../shared/data/librispeech_train --work outputs/overfit_ten

Takes the ten shortest sentences of a folder with a manifest, trains the recipe `ctc_overfit_10` on them from scratch,
and has the finished model transcribe them. Ends with an error unless the CER is under 2 %.
"""

import argparse
import time
from pathlib import Path

from wav2vec2.evaluation.scoring import error_rates
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

SENTENCES = 10
#: The CER that counts as learned.
LEARNED = 0.02


def main() -> None:
    """Train, transcribe, compare."""
    arguments = parse()
    sentences = shortest(arguments.data / "manifest.tsv")
    manifest = write_manifest(arguments.work, sentences)
    begin = time.monotonic()
    clips = [f"data.{part}.0.path={manifest}" for part in ("train", "valid")]
    overrides = [*clips, f"run.output={arguments.work / 'run'}", *arguments.overrides]
    output = finetune(read_run(FinetuneRun, "ctc_overfit_10", overrides))
    minutes = (time.monotonic() - begin) / 60
    transcriber = Transcriber.from_pretrained(output / "model")
    heard = [transcript.text for transcript in transcriber.transcribe_each([one.path for one in sentences])]
    said = [transcriber.processor.tokenizer.normalize(one.transcript or "") for one in sentences]
    for reference, hypothesis in zip(said, heard, strict=True):
        print(f"said   {reference}\nheard  {hypothesis}")
    cer = error_rates(said, heard).cer
    print(f"CER {cer:.2%} after {minutes:.1f} minutes")
    if cer >= LEARNED:
        raise SystemExit(f"not learned: must be under {LEARNED:.0%}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv and its audio")
    parser.add_argument("--work", type=Path, required=True, help="folder for the run")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="values that replace the recipe's")
    return parser.parse_args()


def shortest(manifest: Path) -> list[Recording]:
    """The ten shortest recordings."""
    return sorted(read_manifest(manifest), key=lambda one: one.duration or 0.0)[:SENTENCES]


def write_manifest(folder: Path, sentences: list[Recording]) -> Path:
    """A manifest of these recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{one.path.resolve()}\t{one.duration}\t{one.speaker}\t{one.transcript}" for one in sentences]
    path = folder / "ten.tsv"
    path.write_text("\n".join(["path\tduration\tspeaker\ttranscript", *lines]) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
