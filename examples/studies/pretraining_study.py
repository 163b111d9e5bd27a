"""Does pretraining learn? A tiny model on about an hour of speech, three seeds, beside stock Transformers' model.

    python examples/studies/pretraining_study.py --data ../shared/data --work outputs/pretraining_study

Needs LibriSpeech sentences and FSDD digits, each in a folder with a manifest (`librispeech_train`,
`librispeech_unlabelled`, `fsdd`). Every run continues where it was stopped, finished parts are not done again, and
`--parts` does some of them; the last step writes the table and the figure beside this file.

Runs with seeds 1, 2, 3: "ours", this package's model and loss; and, an eighth as long because stock takes several times
as long on a CPU, "stock", Transformers' model, masks and loss, beside "short", ours: both in this package's loop with
the same clips, learning rate and number of updates. Then, on frozen features, linear probes (`linear_probe.py`) of
both, of the same model with random weights and of log-mel energies.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch's first tensor: large pages for large activations

import torch  # noqa: E402
from accelerate.utils import set_seed  # noqa: E402
from digit_strings import HELD_OUT, write_digit_strings  # noqa: E402
from linear_probe import Features, digits, layers_of, log_mel, log_mel_in_context, speakers  # noqa: E402
from pretraining_results import write_results  # noqa: E402
from stock_pretraining import StockPretrainingTask  # noqa: E402

from wav2vec2 import Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining  # noqa: E402
from wav2vec2.evaluation.provenance import hardware  # noqa: E402
from wav2vec2.files.replaced_file import replaced_file  # noqa: E402
from wav2vec2.training.data.batch_loading import TrainingData  # noqa: E402
from wav2vec2.training.model_making import make_model  # noqa: E402
from wav2vec2.training.settings.run_config import (  # noqa: E402
    DataSection,
    ModelSection,
    OptimizerSection,
    PretrainRun,
    RunSection,
    ScheduleSection,
    Source,
)
from wav2vec2.training.starting import make_accelerator, opened, started  # noqa: E402
from wav2vec2.training.sums_over_processes import add, as_numbers  # noqa: E402
from wav2vec2.training.tasks.pretraining_task import PretrainingTask  # noqa: E402
from wav2vec2.training.tasks.task import Sums  # noqa: E402

SEEDS = (1, 2, 3)
UPDATES = {"ours": 5000, "short": 600, "stock": 600}
#: 0.8 M parameters. The paper's schedule of temperatures, in fewer updates.
SIZE: dict[str, Any] = {
    "conv_dim": [64] * 7,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 512,
    "gumbel_temperature_decay": 0.998,
    "feature_grad_mult": 1.0,
    "feature_penalty_weight": 0.0,
    "hidden_dropout": 0.0,  # a model this small, for so few updates, learns nothing too well
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
    "layerdrop": 0.0,
}


def run_of(name: str, seed: int, data: Path, work: Path, updates: int) -> PretrainRun:
    """The one description that all parts share."""
    strings = write_digit_strings(data / "fsdd", work / "digit_strings")
    return PretrainRun(
        model=ModelSection(preset="tiny", config=dict(SIZE)),
        data=DataSection(
            train=[
                Source(str(data / "librispeech_train" / "manifest.tsv")),
                Source(str(data / "librispeech_unlabelled" / "manifest.tsv")),
                Source(str(without_speaker(strings, HELD_OUT))),
            ],
            valid=[Source(str(only_speaker(strings, HELD_OUT)))],
            min_seconds=1.0,
            max_seconds=4.0,
            seconds_per_update=32.0,
            seconds_per_batch=40.0,
            length_steps=0,  # stock's masks and distractors are of clips alone, not of empty rows
            workers=1,
            cache=str(work / "durations"),
        ),
        optimizer=OptimizerSection(learning_rate=1.5e-3),
        schedule=ScheduleSection(warmup=0.08),
        run=RunSection(
            output=str(work / name),
            updates=updates,
            seed=seed,
            log_every=50,
            evaluate_every=500,
            save_every=500,
        ),
    )


def without_speaker(manifest: Path, speaker: str) -> Path:
    return filtered(manifest, f"without_{speaker}", lambda one: one != speaker)


def only_speaker(manifest: Path, speaker: str) -> Path:
    return filtered(manifest, f"only_{speaker}", lambda one: one == speaker)


def filtered(manifest: Path, name: str, keep: Callable[[str], bool]) -> Path:
    """The manifest's lines whose speaker is kept."""
    head, *lines = manifest.read_text(encoding="utf-8").splitlines()
    column = head.split("\t").index("speaker")
    kept = [line for line in lines if keep(line.split("\t")[column])]
    target = manifest.with_name(f"{name}.tsv")
    target.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")
    return target


def train(part: str, data: Path, work: Path) -> None:
    """One run, "ours-1" or "stock-3"; a finished one returns at once."""
    kind, seed = part.split("-")
    if (work / part / "seconds.json").is_file():
        return
    run = run_of(part, int(seed), data, work, UPDATES[kind])
    torch.set_num_threads(1)
    begun = time.monotonic()
    with opened(run, True, lambda _: TrainingData(run.data, run.run.seed)) as (accelerator, output, audio):
        extractor = Wav2Vec2FeatureExtractor()
        model: Any = make_model(Wav2Vec2ForPreTraining, run.model, None)[0]
        task: Any = PretrainingTask(model.config, extractor, run.run.seed)
        if kind == "stock":
            task = StockPretrainingTask(model.config, extractor, run.run.seed)
            model = task.model()
        with started(run, accelerator, output, model, task, audio, [extractor]) as loop:
            loop.train()
    write_json(
        work / part / "seconds.json", {"seconds": time.monotonic() - begun, "hardware": hardware(accelerator.device)}
    )


@torch.inference_mode()
def compare(part: str, data: Path, work: Path) -> None:
    """The held-out figures of a trained model, ours or stock's, by our model class and with the same masks for all."""
    target = work / part / "compared.json"
    if target.is_file():
        return
    run = run_of(part, 0, data, work, updates=1)
    accelerator = make_accelerator(run.run.precision)
    trained = Wav2Vec2ForPreTraining.from_pretrained(work / part / "model").eval()
    task = PretrainingTask(trained.config, Wav2Vec2FeatureExtractor(), seed=0)
    batches = TrainingData(run.data, 0).evaluation_batches(
        task.waveforms, processes=1, process=0, seconds_per_batch=64.0
    )
    sums: Sums = {}
    for batch in batches:
        sums = add(sums, task.evaluation_part(trained, task.with_targets(batch.inputs, batch.clips)))
    write_json(target, task.evaluation_figures(as_numbers(accelerator, sums)))


def probe(part: str, data: Path, work: Path) -> None:
    """Digits and speakers from the frozen features of a part, of random weights ("random-1") or of "log-mel"."""
    target = work / "probes" / f"{part}.json"
    if target.is_file():
        return
    torch.set_num_threads(1)
    strings = write_digit_strings(data / "fsdd", work / "digit_strings")
    features: Features = {"log-mel": log_mel, "log-mel-context": log_mel_in_context}.get(part, log_mel)
    if not part.startswith("log-mel"):
        kind, seed = part.split("-")
        set_seed(int(seed))
        fresh = make_model(Wav2Vec2ForPreTraining, ModelSection(preset="tiny", config=dict(SIZE)), None)[0]
        model = fresh if kind == "random" else Wav2Vec2ForPreTraining.from_pretrained(work / part / "model")
        features = layers_of(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"digits": digits(strings, features), "speakers": speakers(data, features)})


def write_json(path: Path, content: object) -> None:
    with replaced_file(path) as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/pretraining_study"))
    parser.add_argument("--parts", nargs="*", help="such as ours-1 stock-3; by default all, then probes and results")
    options = parser.parse_args()
    trained = options.parts or [f"{kind}-{seed}" for seed in SEEDS for kind in UPDATES]
    for part in trained:
        train(part, options.data, options.work)
        compare(part, options.data, options.work)
        probe(part, options.data, options.work)
    if not options.parts:
        for part in ("log-mel", "log-mel-context", *(f"random-{seed}" for seed in SEEDS)):
            probe(part, options.data, options.work)
        write_results(options.work, Path(__file__).parent / "results")


if __name__ == "__main__":
    main()
