"""Fine-tuning with this package beside stock Transformers' model under `transformers.Trainer`, in one run.

    python benchmarks/finetuning_step.py                              # base, batch 4 x 10 s: seconds per update
    python benchmarks/finetuning_step.py --learn FSDD WORK            # tiny on digit strings: error rates

Seconds: both models have the same weights, data, masks' probabilities, dropouts and optimizer; the convolutional
encoder is frozen. After every update of Trainer's come one of ours, and one that goes on from kept features
(tuning.keep_features=memory), so that all meet the same machine; medians and ratios are given, with the machine's own
matrix product beside them. An update is forward, backward, clipping and the optimizer's step. On a machine that others
use too, --processor-seconds counts what the process itself has had of one (OMP_NUM_THREADS=1).

Learning: both start from the same random weights of `tiny` (or --checkpoint) and get the same strings, as many updates
of as much audio, the same learning rates and the same seed. Each is then judged by the greedy texts of its own model on
the strings of the speaker that was held out, clip by clip.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.models.wav2vec2 import modeling_wav2vec2 as stock

import wav2vec2
from wav2vec2.configuration import presets
from wav2vec2.evaluation.scoring import error_rates
from wav2vec2.processing.manifests import read_manifest
from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.data.division import AS_THE_CLIPS
from wav2vec2.training.data.feature_stores import MemoryStore
from wav2vec2.training.data.kept_clips import KeptClips
from wav2vec2.training.data.micro_batches import Batch, ClipByClip, filled
from wav2vec2.training.finetuning import finetune, start_head_afresh
from wav2vec2.training.kept_features import KeptFeatures
from wav2vec2.training.optimization import make_optimizer
from wav2vec2.training.progress.throughput import matmul_peak, update_operations
from wav2vec2.training.settings.run_config import (
    FinetuneDataSection,
    FinetuneModelSection,
    FinetuneOptimizerSection,
    FinetuneRun,
    FinetuneRunSection,
    FinetuneScheduleSection,
    Source,
    TextSection,
    TuningSection,
)
from wav2vec2.training.starting import make_accelerator
from wav2vec2.training.tasks.ctc_task import CTCTask, Stages
from wav2vec2.training.tasks.task import Inputs, inputs_of
from wav2vec2.training.transformers_trainer import CTCCollator
from wav2vec2.training.update_step import Updater

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LETTERS = "abcdefghijklmnopqrstuvwxyz"

#: Of the paper's fine-tuning; no layer is dropped, so that both sides do the same work.
FINETUNING: dict[str, Any] = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "activation_dropout": 0.1,
    "layerdrop": 0.0,
    "mask_time_prob": 0.65,
    "mask_feature_prob": 0.5,
    "mask_feature_length": 64,
    "feature_grad_mult": 0.0,
    "ctc_loss_reduction": "mean",
    "ctc_zero_infinity": True,
}


class Setting(SimpleNamespace):
    """What is measured."""

    preset: str
    batch: int
    seconds: float
    seed: int
    rounds: int
    attention: str | None
    shape: Path | None = None
    held: bool = False

    def config(self) -> wav2vec2.Wav2Vec2Config:
        """The preset's, or that of a checkpoint, with a head for letters."""
        made = partial(wav2vec2.Wav2Vec2Config.from_pretrained, self.shape) if self.shape else None
        config: wav2vec2.Wav2Vec2Config = (made or getattr(presets, self.preset))(
            **FINETUNING, vocab_size=len(processor().tokenizer), pad_token_id=0
        )
        return config

    def clips(self) -> list[LoadedClip]:
        """Noise with a text of 14 letters a second, as read English has."""
        generator = np.random.default_rng(self.seed)
        samples = generator.standard_normal((self.batch, int(self.seconds * 16000))).astype(np.float32)
        texts = ["".join(generator.choice(list(LETTERS), int(14 * self.seconds))) for _ in range(self.batch)]
        pairs = enumerate(zip(samples, texts, strict=True))
        return [LoadedClip(str(n), one, n, text, number=n) for n, (one, text) in pairs]


def processor() -> wav2vec2.Wav2Vec2Processor:
    """Letters and digits' names need no more."""
    tokens = ["<pad>", "<unk>", "|", *LETTERS]
    tokenizer = wav2vec2.Wav2Vec2CTCTokenizer({token: number for number, token in enumerate(tokens)})
    return wav2vec2.Wav2Vec2Processor(wav2vec2.Wav2Vec2FeatureExtractor(), tokenizer)


def models(setting: Setting) -> tuple[Any, Any]:
    """Ours and stock's, with the same weights."""
    torch.manual_seed(setting.seed)
    ours: Any = wav2vec2.Wav2Vec2ForCTC(setting.config())
    theirs = stock.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**setting.config().to_dict()))
    theirs.load_state_dict(ours.state_dict())
    for model in (ours, theirs):
        model.freeze_feature_encoder()
    if setting.held:
        theirs.freeze_base_model()
    if setting.attention is not None:
        ours.set_attn_implementation(setting.attention)
    return ours, theirs


class OurUpdates(TrainerCallback):  # type: ignore[misc]
    """Times Trainer's updates, and after each those of ours, which differ in what makes their inputs."""

    def __init__(self, updater: Updater, sides: dict[str, Callable[[], Inputs]], clock: Callable[[], float]) -> None:
        self.updater, self.sides, self.clock = updater, sides, clock
        self.seconds: dict[str, list[float]] = {side: [] for side in ("stock", *sides)}
        self.began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = self.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds["stock"].append(self.clock() - self.began)
        for side, inputs in self.sides.items():
            began = self.clock()
            self.updater(state.global_step, [inputs()])()
            self.seconds[side].append(self.clock() - began)


def trainer_arguments(output: Path, updates: int, dtype: str, **more: Any) -> TrainingArguments:
    """Trainer with the optimizer of our sections."""
    section = FinetuneOptimizerSection()
    given: dict[str, Any] = {
        "output_dir": str(output),
        "use_cpu": True,
        "bf16": dtype == "bf16",
        "max_steps": updates,
        "learning_rate": section.learning_rate,
        "adam_beta1": section.betas[0],
        "adam_beta2": section.betas[1],
        "adam_epsilon": section.epsilon,
        "weight_decay": section.weight_decay,
        "max_grad_norm": 1.0,
        "save_strategy": "no",
        "logging_steps": updates,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**(given | more))


def kept(updater: Updater, task: CTCTask, clips: list[LoadedClip]) -> Callable[[], Inputs]:
    """What makes inputs of features that are in memory."""
    facts = [clip.facts for clip in clips]
    batch = Batch(0, 0, 1, ClipByClip(task.waveforms)(clips), facts, 0.0, shape=filled(AS_THE_CLIPS, facts))
    keep = KeptFeatures(updater.bare, updater.accelerator, MemoryStore(2.0**40), KeptClips(len(clips)), print)
    keep(batch)  # the first time
    return lambda: task.with_targets(keep(batch).inputs, facts)


def compare(setting: Setting, dtype: str, output: Path, clock: Callable[[], float]) -> dict[str, Any]:
    """Seconds per update of one precision."""
    AcceleratorState._reset_state(True)  # which is one for the whole process, and keeps the precision
    ours, theirs = models(setting)
    own = processor()
    stages = Stages(freeze_updates=setting.rounds + 2 if setting.held else 0)
    task = CTCTask(ours.config, own.feature_extractor, own.tokenizer, setting.seed, stages)
    accelerator = make_accelerator(dtype)
    wrapped, optimizer = accelerator.prepare(ours, make_optimizer(ours, FinetuneOptimizerSection()))
    updater = Updater(accelerator, wrapped, optimizer, task, setting.seed, 1.0)
    clips = setting.clips()
    inputs = inputs_of(task, clips)
    interleaved = OurUpdates(updater, {"ours": lambda: inputs, "kept": kept(updater, task, clips)}, clock)
    trainer = Trainer(
        model=theirs,
        args=trainer_arguments(output, setting.rounds + 1, dtype, per_device_train_batch_size=setting.batch),
        train_dataset=[{"audio": clip.samples, "text": clip.transcript} for clip in clips],
        data_collator=CTCCollator(own),
        callbacks=[interleaved],
    )
    trainer.train()
    seconds = {side: statistics.median(taken[1:]) for side, taken in interleaved.seconds.items()}  # one to warm up
    peak = matmul_peak(DTYPES[dtype])
    lengths = [int(setting.seconds * 16000)] * setting.batch
    rate = update_operations(ours.config, lengths, trains_convolutions=False) / seconds["ours"]
    return seconds | {
        "ratio": seconds["stock"] / seconds["ours"],
        "ratio, kept": seconds["stock"] / seconds["kept"],
        "matmul peak, TFLOP/s": peak / 1e12,
        "fraction of the peak": rate / peak,
    }


def digit_strings(fsdd: Path, work: Path) -> tuple[Path, Path]:
    """Manifests of the strings of all speakers but one, and of that one."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "studies"))
    from digit_strings import HELD_OUT, write_digit_strings

    manifest = write_digit_strings(fsdd, work / "strings")
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    column = header.split("\t").index("speaker")
    paths = []
    for name, held_out in (("train", False), ("valid", True)):
        chosen = [row for row in rows if (row.split("\t")[column] == HELD_OUT) == held_out]
        path = manifest.with_name(f"{name}.tsv")
        path.write_text("\n".join([header, *chosen]) + "\n", encoding="utf-8")
        paths.append(path)
    return paths[0], paths[1]


def starting_point(setting: Setting, options: argparse.Namespace) -> str:
    """The folder that both sides start from: model, head and processor."""
    if options.checkpoint:
        return str(options.checkpoint)
    folder = options.learn[1] / "start"
    torch.manual_seed(setting.seed)
    model = wav2vec2.Wav2Vec2ForCTC(getattr(presets, setting.preset)(**start_settings()))
    start_head_afresh(model, setting.seed)  # as our runs begin, for both
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return str(folder)


def start_settings() -> dict[str, Any]:
    """Light masks, since clips are short; trained convolutions, since nothing was learnt yet; norms and first weights
    with which so small a model leaves the plateau of blanks soon."""
    masks = {"mask_time_prob": 0.05, "mask_feature_prob": 0.0, "feature_grad_mult": 1.0}
    fresh = {"do_stable_layer_norm": True, "initializer_range": 0.08, "conv_dim": [64] * 7, "hidden_size": 128}
    fresh |= {"num_hidden_layers": 3, "intermediate_size": 512, "activation_dropout": 0.0}
    return FINETUNING | masks | fresh | {"vocab_size": len(processor().tokenizer), "pad_token_id": 0}


def learn_ours(start: str, train: Path, options: argparse.Namespace, seconds: float) -> Any:
    """Our loop; the model."""
    output = options.learn[1] / f"ours-{options.seed}"
    run = FinetuneRun(
        model=FinetuneModelSection(checkpoint=start, config={}),
        data=FinetuneDataSection(
            train=[Source(path=str(train))], seconds_per_update=seconds, seconds_per_batch=seconds + 10, workers=0
        ),
        text=TextSection(case="lower"),
        tuning=TuningSection(freeze_updates=0),
        optimizer=FinetuneOptimizerSection(learning_rate=options.learning_rate, clip_norm=1.0),
        schedule=FinetuneScheduleSection(kind="polynomial", warmup=0.1, initial_scale=0.0, final_scale=0.0),
        run=FinetuneRunSection(
            output=str(output), updates=options.updates, seed=options.seed, precision=options.dtypes[0], report=False
        ),
    )
    finetune(run, resume=False)
    return wav2vec2.Wav2Vec2ForCTC.from_pretrained(output / "model")


def learn_stock(start: str, train: Path, options: argparse.Namespace, clips: int) -> Any:
    """Stock's model under Trainer; the model."""
    AcceleratorState._reset_state(True)
    model = stock.Wav2Vec2ForCTC.from_pretrained(start)
    arguments = trainer_arguments(
        options.learn[1] / f"stock-{options.seed}",
        options.updates,
        options.dtypes[0],
        per_device_train_batch_size=clips,
        learning_rate=options.learning_rate,
        warmup_steps=round(0.1 * options.updates),
        seed=options.seed,
    )
    examples = [
        {"audio": wav2vec2.load_audio(one.path), "text": (one.transcript or "").lower()} for one in read_manifest(train)
    ]
    Trainer(model=model, args=arguments, train_dataset=examples, data_collator=CTCCollator(processor())).train()
    return model


@torch.no_grad()
def judge(model: Any, valid: Path) -> dict[str, float]:
    """Error rates of the greedy texts, clip by clip."""
    own = processor()
    said, heard = [], []
    for one in read_manifest(valid):
        values = own.feature_extractor(wav2vec2.load_audio(one.path), sampling_rate=16000, return_tensors="pt")
        heard.append(own.tokenizer.decode(model.eval()(values["input_values"]).logits[0].argmax(-1).tolist()))
        said.append((one.transcript or "").lower())
    rates = error_rates(said, heard)
    return {"cer": rates.cer, "wer": rates.wer}


def learn(setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides on the same strings."""
    train, valid = digit_strings(*options.learn)
    start = starting_point(setting, options)
    lengths = [one.duration or 0.0 for one in read_manifest(train)]
    seconds = options.batch * statistics.mean(lengths)
    result: dict[str, Any] = {"seconds of audio per update": seconds, "updates": options.updates}
    for side, work in (
        ("ours", lambda: learn_ours(start, train, options, seconds)),
        ("stock", lambda: learn_stock(start, train, options, options.batch)),
    ):
        began = time.perf_counter()
        model = work()
        minutes = (time.perf_counter() - began) / 60
        result[side] = judge(model, valid) | {"minutes": minutes}
    return result


def table(results: dict[str, dict[str, Any]]) -> str:
    """Seconds per update as Markdown."""
    lines = [
        "| precision | stock, s | ours, s | kept, s | ratio | ratio, kept | matmul peak, TFLOP/s | fraction of it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for dtype, row in results.items():
        names = ("stock", "ours", "kept", "ratio", "ratio, kept", "matmul peak, TFLOP/s", "fraction of the peak")
        lines.append(f"| {dtype} | " + " | ".join(f"{row[name]:.3g}" for name in names) + " |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    """Measure, and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", help="base, or tiny with --learn")
    parser.add_argument("--batch", type=int, default=4, help="clips per update")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", type=Path, help="a checkpoint whose configuration stands for the preset's")
    parser.add_argument("--held", action="store_true", help="train the head alone (tuning.freeze_updates)")
    parser.add_argument("--processor-seconds", action="store_true", help="not those of the clock on the wall")
    parser.add_argument("--attention", help="ours: sdpa or eager (run.attention); by default its own choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learn", nargs=2, type=Path, metavar=("FSDD", "WORK"), help="compare error rates instead")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--checkpoint", type=Path, help="CTC model folder with its processor to start --learn from")
    parser.add_argument("--work", type=Path, default=Path("outputs/finetuning_step"), help="where Trainer may write")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    preset = options.preset or ("tiny" if options.learn else "base")
    setting = Setting(
        preset=preset,
        batch=options.batch,
        seconds=options.seconds,
        seed=options.seed,
        rounds=options.rounds,
        attention=options.attention,
        shape=options.shape,
        held=options.held,
    )
    clock = time.process_time if options.processor_seconds else time.perf_counter
    report: dict[str, Any] = {"setting": vars(setting) | {"shape": str(setting.shape)}, "machine": machine()}
    if options.learn:
        report["results"] = learn(setting, options)
        print(json.dumps(report, indent=2))
    else:
        report["results"] = {dtype: compare(setting, dtype, options.work, clock) for dtype in options.dtypes}
        print(json.dumps(report["machine"]), table(report["results"]), sep="\n\n")
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
