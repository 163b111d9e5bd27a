"""How much labelled speech does pretraining save? An unseen speaker, from half a minute of labels.

    python examples/studies/label_efficiency.py --data ../shared/data

Needs FSDD digits and LibriSpeech sentences, each in a folder with a manifest (`fsdd`, `librispeech_train`,
`librispeech_unlabelled`). Three models of equal size, with seeds 1, 2, 3:

    pretrained  pretrained by this study on all audio but that of one FSDD speaker, without labels, then fine-tuned
    scratch     the same model from random weights
    cnn-rnn     a CNN-RNN CTC network on log-mel energies (`cnn_rnn_baseline.py`)

    digits      strings of three to seven digits: 0.5, 1, 2, 4, 8 labelled minutes of three speakers, tested on 150
                strings of the fourth, of whom nothing was heard in any training
    sentences   LibriSpeech: 8 labelled minutes of two speakers, tested on the 50 sentences of a third, whose audio
                pretraining has heard, without its text

The labelled recordings of a smaller budget are among those of the larger ones, and each comes with copies at other
speeds (`perturbed_speech.py`). All three see the same number of updates of the same audio. Every part is one file of
results and is done once; the last step writes the table and the figure beside this file.
"""

import argparse
import os
import random
import time
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch's first tensor: large pages for large activations

import cnn_rnn_baseline  # noqa: E402
import label_efficiency_runs as runs  # noqa: E402
import torch  # noqa: E402
from digit_strings import HELD_OUT, write_digit_strings  # noqa: E402
from label_efficiency_results import write_results  # noqa: E402
from linear_probe import waveform  # noqa: E402
from perturbed_speech import table, with_other_speeds, write_table  # noqa: E402
from pretraining_study import write_json  # noqa: E402

from wav2vec2 import Transcriber, Wav2Vec2CTCTokenizer, build_vocabulary  # noqa: E402
from wav2vec2.evaluation.scoring import error_rates  # noqa: E402
from wav2vec2.training.finetuning import finetune  # noqa: E402
from wav2vec2.training.pretraining import pretrain  # noqa: E402

MINUTES = {"digits": (0.5, 1.0, 2.0, 4.0, 8.0), "sentences": (8.0,)}
SPEAKER_TESTED = {"digits": HELD_OUT, "sentences": "26"}
SEEDS = (1, 2, 3)
KINDS = ("pretrained", "scratch", "cnn-rnn")

Rows = list[dict[str, str]]


class Study:
    """Where things are, and the parts."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work
        strings = write_digit_strings(data / "fsdd", work / "digit_strings")
        self.manifests = {"digits": strings, "sentences": data / "librispeech_train" / "manifest.tsv"}

    def rows(self, task: str, tested: bool) -> Rows:
        """The recordings of the speaker who is tested, or of the others; with whole paths."""
        manifest = self.manifests[task]
        chosen = [row for row in table(manifest) if (row["speaker"] == SPEAKER_TESTED[task]) == tested]
        return [row | {"path": str((manifest.parent / row["path"]).resolve())} for row in chosen]

    def pretrained(self, seed: int) -> Path:
        """The folder of a model that has heard all audio but the unseen speaker's; made once."""
        output = self.work / f"pretrained-{seed}"
        if not (output / "model" / "model.safetensors").is_file():
            copies = self.work / "other_speeds"
            train = []
            for name in ("librispeech_train", "librispeech_unlabelled", "digits"):
                manifest = self.manifests["digits"] if name == "digits" else self.data / name / "manifest.tsv"
                rows = self.rows("digits", tested=False) if name == "digits" else table(manifest)
                rows = with_other_speeds(rows, manifest.parent, runs.PRETRAINING_SPEEDS, copies)
                train.append(write_table(self.work / f"heard_{name}_{seed}.tsv", rows))
            valid = write_table(self.work / f"unheard_{seed}.tsv", self.rows("digits", tested=True))
            pretrain(runs.pretraining_run(seed, train, valid, output))
        return output / "model"

    def labelled(self, task: str, minutes: float, seed: int) -> Rows:
        """So many minutes of the training speakers, and their copies; nested for one seed."""
        rows = self.rows(task, tested=False)
        random.Random(seed).shuffle(rows)
        chosen, seconds = [], 0.0
        for row in rows:
            if seconds >= 60 * minutes:
                break
            chosen.append(row)
            seconds += float(row["duration"])
        return with_other_speeds(chosen, Path(), runs.FINETUNING_SPEEDS, self.work / "other_speeds")

    def part(self, task: str, kind: str, minutes: float, seed: int) -> None:
        """One training and its test; done once."""
        name = f"{task}-{kind}-{minutes:g}-{seed}"
        target = self.work / "results" / f"{name}.json"
        if target.is_file():
            return
        rows, test = self.labelled(task, minutes, seed), self.rows(task, tested=True)
        pretrained = self.pretrained(seed) if kind == "pretrained" else Path()
        begun = time.monotonic()
        if kind == "cnn-rnn":
            heard = baseline(rows, test, seed)
        else:
            train = write_table(self.work / f"labelled_{task}_{minutes:g}_{seed}_{kind}.tsv", rows)
            run = runs.finetuning_run(kind, seed, train, pretrained, self.work / "runs" / name)
            transcriber = Transcriber.from_pretrained(finetune(run) / "model", device="cpu")
            heard = [one.text for one in transcriber.transcribe_each([row["path"] for row in test])]
        said = [row["transcript"].lower() for row in test]
        rates = error_rates(said, [text.lower() for text in heard])
        figures = {"wer": rates.wer, "cer": rates.cer, "seconds": time.monotonic() - begun, "updates": runs.UPDATES}
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, figures | {"said": said[:3], "heard": heard[:3]})


def baseline(rows: Rows, test: Rows, seed: int) -> list[str]:
    """The CNN-RNN network: its texts for the test audio."""
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(build_vocabulary([row["transcript"] for row in rows]), strict=True)
    clips = [(waveform(Path(row["path"])), tokenizer(row["transcript"]).input_ids) for row in rows]
    rate = runs.LEARNING_RATES["cnn-rnn"]
    model = cnn_rnn_baseline.train(clips, len(tokenizer), runs.UPDATES, runs.SECONDS_PER_UPDATE, rate, seed)
    return cnn_rnn_baseline.transcribe(model, [waveform(Path(row["path"])) for row in test], tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/label_efficiency"))
    parser.add_argument("--tasks", nargs="*", choices=MINUTES, default=tuple(MINUTES))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--minutes", nargs="*", type=float, help="of labels; by default all of the task's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(options.data, options.work)
    for seed in options.seeds:
        for task in options.tasks:
            for minutes in options.minutes or MINUTES[task]:
                for kind in options.kinds:
                    study.part(task, kind, minutes, seed)
    write_results(options.work / "results", Path(__file__).parent / "results")


if __name__ == "__main__":
    main()
