"""Which of the ingredients matter? A small model from a warm start, each ingredient left out once, three seeds.

    python examples/studies/pretraining_ingredients.py --data ../shared/data --work outputs/ingredients

Needs `speech` (train-*.parquet and valid.parquet) and `fsdd` under the data folder. A run takes one core; one that was
stopped goes on, one that is done is not done again, and `--runs all-1 "no warm start-2"` does some of them. The table,
the curves and the figure beside this file are of whatever is done. Guards are off: a collapse is a result.

Every run hears the same audio in the same order for as many updates of the objective. "held out" are the clips of
valid.parquet, "digits" the linear probe of `linear_probe.py` on a speaker of whom nothing was heard.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch's first tensor: large pages for large activations

import torch  # noqa: E402
from digit_strings import HELD_OUT, write_digit_strings  # noqa: E402
from linear_probe import digits, layers_of  # noqa: E402

from wav2vec2 import Wav2Vec2ForPreTraining  # noqa: E402
from wav2vec2.evaluation.provenance import hardware  # noqa: E402
from wav2vec2.files.replaced_file import replaced_file  # noqa: E402
from wav2vec2.training.pretraining import pretrain  # noqa: E402
from wav2vec2.training.progress.training_log import read_log  # noqa: E402
from wav2vec2.training.settings.recipes import read_run  # noqa: E402
from wav2vec2.training.settings.run_config import PretrainRun  # noqa: E402

SEEDS = (1, 2, 3)
WARM_UPDATES, UPDATES = 150, 600
#: 1.6 M parameters, of the shape of `presets.small`.
SIZE = [
    f"model.config.{name}={value}"
    for name, value in {
        "conv_dim": [96] * 7,
        "hidden_size": 160,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 640,
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 8,
        "codevector_dim": 96,
        "proj_codevector_dim": 96,
        "gumbel_temperature_decay": 0.25 ** (1 / UPDATES),  # from 2 to 0.5 in the run
    }.items()
]
#: What is left out, as the published recipes have it instead.
LEFT_OUT = {
    "no warm start": ["warm_start.updates=0"],
    "codebooks as published": ["centred_codebooks=false"],
    "diversity weight 0.1": ["model.config.diversity_loss_weight=0.1"],
    "feature penalty 10": ["model.config.feature_penalty_weight=10.0"],
    "initializer_range 0.02": ["model.config.initializer_range=0.02"],
    "norms behind the layers": ["model.config.do_stable_layer_norm=false"],
    "feature_grad_mult 1": ["model.config.feature_grad_mult=1.0"],
}
#: All of them together are the paper's settings, at this size and learning rate (whose gradient factor is 0.1, too).
PUBLISHED = [change for name, changes in LEFT_OUT.items() if name != "feature_grad_mult 1" for change in changes]
VARIANTS = {"all": [], **LEFT_OUT, "all but the gradient factor": PUBLISHED}


def run_of(variant: str, seed: int, data: Path, folder: Path) -> PretrainRun:
    """The recipe `small_minutes` in small, with what the variant changes."""
    warm = 0 if "warm_start.updates=0" in VARIANTS[variant] else WARM_UPDATES
    return read_run(
        PretrainRun,
        "small_minutes",
        [
            *SIZE,
            f"warm_start.updates={warm}",
            *VARIANTS[variant],
            f"data.train.0.path={heard(data / 'speech', folder.parent / 'heard')}",
            f"data.valid.0.path={data / 'speech' / 'valid.parquet'}",
            f"data.cache={folder.parent / 'durations'}",
            *("data.max_seconds=5", "data.seconds_per_update=20", "data.seconds_per_batch=60", "data.workers=0"),
            *("guards.collapse=false", "guards.stalled=false"),
            *("run.log_every=10", "run.evaluate_every=150", "run.save_every=150", "run.keep_best=0"),
            *(f"run.updates={warm + UPDATES}", f"run.seed={seed}", f"run.output={folder}", "run.report=false"),
        ],
    )


def heard(speech: Path, folder: Path) -> Path:
    """The training audio without the speaker whose digits are probed: copies of the shards, made once."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    for shard in sorted(speech.glob("train-*.parquet")):
        copy = folder / shard.name
        if not copy.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            rows = parquet.read_table(shard)
            with replaced_file(copy) as stream:
                parquet.write_table(rows.filter(compute.not_equal(rows["speaker"], f"fsdd-{HELD_OUT}")), stream)
    return folder / "train-*.parquet"


def result_of(variant: str, seed: int, data: Path, work: Path) -> None:
    """Train and probe one run, and write down what came out; a finished one returns at once."""
    folder = folder_of(variant, seed, work)
    if (folder / "result.json").is_file():
        return
    torch.set_num_threads(1)
    begun, run = time.monotonic(), run_of(variant, seed, data, folder)
    pretrain(run)
    seconds, warm = time.monotonic() - begun, run.warm_start.updates
    lines = [line for line in read_log(folder) if line["kind"] == "training"]
    behind = [line for line in lines if line["update"] > warm]
    strings = write_digit_strings(data / "fsdd", work / "digit_strings")
    content = {
        "variant": variant,
        "seed": seed,
        "seconds": seconds,
        "hardware": hardware(torch.device("cpu")),
        "log_mel_error": next((line["log_mel_error"] for line in reversed(lines) if "log_mel_error" in line), None),
        "update": [line["update"] - warm for line in behind],
        "accuracy": [line["accuracy"] for line in behind],
        "code_perplexity": [line["code_perplexity"] for line in behind],
        "held_out": [line for line in read_log(folder) if line["kind"] == "evaluation"],
        "digits": digits(strings, layers_of(Wav2Vec2ForPreTraining.from_pretrained(folder / "model"))),
    }
    write(folder / "result.json", json.dumps(content, indent=1) + "\n")


def write_results(work: Path, target: Path) -> None:
    """The table, the curves and the figure of all runs that are done."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.glob("*/result.json"))]
    by_variant = {name: [one for one in found if one["variant"] == name] for name in VARIANTS}
    rows = [row_of(name, results) for name, results in by_variant.items() if results]
    head = ("left out", "accuracy, held out", "codes of 320, held out", "digits of a frame (%)", "seeds", "minutes")
    table = ["# Which ingredients of pretraining matter", "", introduction(found), "", "![Curves](ingredients.png)", ""]
    table += ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    write(target / "ingredients.md", "\n".join(table) + "\n")
    write(target / "ingredients.json", json.dumps(found) + "\n")
    draw({name: results for name, results in by_variant.items() if results}, target / "ingredients.png")


def take_up(target: Path, work: Path) -> None:
    """The runs that `write_results` was made of, as the files that a run leaves; those that are there stay."""
    for one in json.loads((target / "ingredients.json").read_text(encoding="utf-8")):
        result = folder_of(one["variant"], one["seed"], work) / "result.json"
        if not result.is_file():
            write(result, json.dumps(one, indent=1) + "\n")


def folder_of(variant: str, seed: int, work: Path) -> Path:
    return work / f"{variant}-{seed}".replace(" ", "_")


def introduction(found: Sequence[dict[str, Any]]) -> str:
    """What the table is of."""
    on = ", ".join(sorted({one["hardware"] for one in found}))
    return (
        f"1.6 M parameters, {UPDATES} updates of 20 s behind a warm start of {WARM_UPDATES}, one thread of {on}. "
        "Means, and the lowest and highest of the seeds. Chance is 0.0099 for the accuracy and 10 % for the digits."
    )


def row_of(variant: str, results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    last = [one["held_out"][-1] for one in results]
    codes = zip(*(line["code_perplexity"] for line in last), strict=True)
    return (
        "nothing" if variant == "all" else variant,
        spread([line["accuracy"] for line in last], "{:.3f}"),
        " + ".join(f"{mean(group):.0f}" for group in codes),
        spread([100 * one["digits"] for one in results], "{:.1f}"),
        str(len(results)),
        f"{mean(one['seconds'] for one in results) / 60:.1f}",
    )


def spread(values: Sequence[float], pattern: str) -> str:
    """The mean, and between which two the values are."""
    low, middle, high = (pattern.format(value) for value in (min(values), mean(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def draw(by_variant: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Accuracy and codes in use over the updates, one line for each seed."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for index, (name, runs) in enumerate(by_variant.items()):
        for run in runs:
            codes = [mean(groups) for groups in run["code_perplexity"]]
            label = name if run is runs[0] else None
            for axis, values in zip(axes, (run["accuracy"], codes), strict=True):
                axis.plot(run["update"], values, color=f"C{index}", linewidth=0.9, label=label)
    axes[0].set(title="contrastive accuracy, training", xlabel="updates of the objective")
    axes[1].set(title="code perplexity, mean of the groups", xlabel="updates of the objective")
    axes[1].legend(fontsize=7)
    with replaced_file(path) as stream:
        figure.savefig(stream, format="png", dpi=130)
    pyplot.close(figure)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as stream:
        stream.write(text.encode("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/ingredients"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--runs", nargs="*", help='such as all-1 "no warm start-3"; by default all of them')
    parser.add_argument("--go-on", action="store_true", help="with the results that are there: do only what lacks")
    options = parser.parse_args()
    if options.go_on:
        take_up(options.results, options.work)
    for run in options.runs or [f"{variant}-{seed}" for seed in SEEDS for variant in VARIANTS]:
        variant, seed = run.rsplit("-", 1)
        result_of(variant, int(seed), options.data, options.work)
        write_results(options.work, options.results)


if __name__ == "__main__":
    main()
