"""How much labelled speech does pretraining save? Digit strings of an unseen speaker, from half a minute of labels.

    python examples/studies/pretraining_study.py --data ../shared/data --parts ours-1 ours-2 ours-3
    python examples/studies/label_efficiency.py --data ../shared/data

For 0.5, 1, 2, 4 and 8 labelled minutes and seeds 1, 2, 3, the words of three speakers are learned and those of a
fourth, of whom nothing was heard in any training, are tested (150 strings of three to seven digits):

    pretrained  the model of the pretraining study with the same seed, fine-tuned
    scratch     the same model from random weights
    cnn-rnn     a CNN-RNN CTC network on log-mel energies with as many parameters (`cnn_rnn_baseline.py`)

The labelled strings of a smaller budget are among those of the larger ones. All three see the same number of updates
of the same audio. Every part is one file of results and is done once; the last step writes the table and the figure.
"""

import argparse
import os
import random
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch's first tensor: large pages for large activations

import cnn_rnn_baseline  # noqa: E402
import torch  # noqa: E402
from digit_strings import HELD_OUT, write_digit_strings  # noqa: E402
from label_efficiency_results import write_results  # noqa: E402
from linear_probe import table, waveform  # noqa: E402
from pretraining_study import SIZE, only_speaker, write_json  # noqa: E402

from wav2vec2 import Transcriber, Wav2Vec2CTCTokenizer, build_vocabulary  # noqa: E402
from wav2vec2.evaluation.scoring import error_rates  # noqa: E402
from wav2vec2.training.finetuning import finetune  # noqa: E402
from wav2vec2.training.settings.run_config import (  # noqa: E402
    FinetuneDataSection,
    FinetuneModelSection,
    FinetuneOptimizerSection,
    FinetuneRun,
    FinetuneRunSection,
    FinetuneScheduleSection,
    Source,
    TuningSection,
)

MINUTES = (0.5, 1.0, 2.0, 4.0, 8.0)
SEEDS = (1, 2, 3)
KINDS = ("pretrained", "scratch", "cnn-rnn")
UPDATES = 2000
SECONDS_PER_UPDATE = 8.0
LEARNING_RATES = {"pretrained": 1e-3, "scratch": 2e-3, "cnn-rnn": 2e-3}
#: Light masks and hardly any dropout: the model is small and the runs are short.
CONFIG: dict[str, Any] = {
    "activation_dropout": 0.0,
    "hidden_dropout": 0.05,
    "layerdrop": 0.0,
    "mask_time_prob": 0.2,
    "mask_feature_prob": 0.1,
    "mask_feature_length": 16,
    "feature_grad_mult": 1.0,
}


def labelled(strings: Path, minutes: float, seed: int) -> Path:
    """A manifest of so many minutes of the training speakers' strings; nested for one seed."""
    head, *lines = strings.read_text(encoding="utf-8").splitlines()
    columns = head.split("\t")
    rows = [line for line in lines if line.split("\t")[columns.index("speaker")] != HELD_OUT]
    random.Random(seed).shuffle(rows)
    chosen, seconds = [], 0.0
    for row in rows:
        if seconds >= 60 * minutes:
            break
        chosen.append(row)
        seconds += float(row.split("\t")[columns.index("duration")])
    target = strings.with_name(f"labelled_{minutes:g}_{seed}.tsv")
    target.write_text("\n".join([head, *chosen]) + "\n", encoding="utf-8")
    return target


def run_of(kind: str, seed: int, train: Path, pretrained: Path, output: Path) -> FinetuneRun:
    """Fine-tuning or training from scratch: all else is equal."""
    if kind == "pretrained":
        pretrained_model = str(pretrained / f"ours-{seed}" / "model")
        model = FinetuneModelSection(checkpoint=pretrained_model, config=CONFIG | {"feature_grad_mult": 0.0})
    else:
        # post-norm does not leave the plateau of blanks in so few updates from random weights; pre-norm does
        model = FinetuneModelSection(preset="tiny", config=SIZE | CONFIG | {"do_stable_layer_norm": True})
    return FinetuneRun(
        model=model,
        data=FinetuneDataSection(
            train=[Source(str(train))],
            min_seconds=0.5,
            max_seconds=12.0,
            seconds_per_update=SECONDS_PER_UPDATE,
            seconds_per_batch=16.0,
            workers=1,
            cache=str(output.parent.parent / "durations"),
        ),
        optimizer=FinetuneOptimizerSection(learning_rate=LEARNING_RATES[kind], weight_decay=0.01),
        schedule=FinetuneScheduleSection(),
        tuning=TuningSection(freeze_updates=0),
        run=FinetuneRunSection(
            output=str(output), updates=UPDATES, seed=seed, log_every=50, save_every=UPDATES, report=False
        ),
    )


def part(kind: str, minutes: float, seed: int, data: Path, pretrained: Path, work: Path) -> None:
    """One training and its test; done once."""
    name = f"{kind}-{minutes:g}-{seed}"
    target = work / "results" / f"{name}.json"
    if target.is_file():
        return
    torch.set_num_threads(1)
    strings = write_digit_strings(data / "fsdd", work / "digit_strings")
    train, test = labelled(strings, minutes, seed), table(only_speaker(strings, HELD_OUT))
    begun = time.monotonic()
    if kind == "cnn-rnn":
        audio = [waveform(strings.parent / row["path"]) for row in test]
        heard = baseline(strings.parent, table(train), audio, seed)
    else:
        run = run_of(kind, seed, train, pretrained, work / "runs" / name)
        transcriber = Transcriber.from_pretrained(finetune(run) / "model", device="cpu")
        paths = [strings.parent / row["path"] for row in test]
        heard = [one.text for one in transcriber.transcribe_each(paths)]
    rates = error_rates([row["transcript"].lower() for row in test], [text.lower() for text in heard])
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"wer": rates.wer, "cer": rates.cer, "seconds": time.monotonic() - begun, "updates": UPDATES})


def baseline(folder: Path, train: list[dict[str, str]], audio: list[Any], seed: int) -> list[str]:
    """The CNN-RNN network: its texts for the test audio."""
    texts = [row["transcript"] for row in train]
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(build_vocabulary(texts))
    clips = [(waveform(folder / row["path"]), tokenizer(row["transcript"]).input_ids) for row in train]
    rate = LEARNING_RATES["cnn-rnn"]
    model = cnn_rnn_baseline.train(clips, len(tokenizer), UPDATES, SECONDS_PER_UPDATE, rate, seed)
    return cnn_rnn_baseline.transcribe(model, audio, tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pretrained", type=Path, default=Path("outputs/pretraining_study"))
    parser.add_argument("--work", type=Path, default=Path("outputs/label_efficiency"))
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    options = parser.parse_args()
    for seed in options.seeds:
        for minutes in MINUTES:
            for kind in options.kinds:
                part(kind, minutes, seed, options.data, options.pretrained, options.work)
    write_results(options.work / "results", Path(__file__).parent / "results")


if __name__ == "__main__":
    main()
