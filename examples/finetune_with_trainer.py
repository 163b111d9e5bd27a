"""Speech recognition with `transformers.Trainer` instead of this package's loop.

    python examples/finetune_with_trainer.py facebook/wav2vec2-base train.tsv valid.tsv outputs/trainer

A manifest has the columns `path` and `transcript`. On several processes: `accelerate launch` (or `torchrun`) instead
of `python`; processes and accumulation only divide an update, its weights stay the same. What is particular to these
models: the collator, the callback that tells the model which update comes, and ids instead of logits at evaluation.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from wav2vec2 import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    build_vocabulary,
    load_audio,
)
from wav2vec2.processing.manifests import read_manifest
from wav2vec2.training.trainer_collator import CTCCollator, ErrorRates, GreedyIds, UpdateCallback


class Recordings(Dataset[dict[str, Any]]):
    """The recordings of a manifest that have a transcript, decoded when they are needed."""

    def __init__(self, manifest: Path) -> None:
        self.recordings = [one for one in read_manifest(manifest) if one.transcript]

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> dict[str, Any]:
        one = self.recordings[index]
        return {"audio": load_audio(one.path), "text": one.transcript}


def main() -> None:
    """Train and evaluate."""
    options = parse()
    train, valid = Recordings(options.train), Recordings(options.valid)
    vocabulary = build_vocabulary([one.transcript or "" for one in train.recordings])
    processor = Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor.from_pretrained(options.model), Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary)
    )
    model = Wav2Vec2ForCTC.from_pretrained(
        options.model, vocab_size=len(vocabulary.tokens), pad_token_id=processor.tokenizer.pad_token_id
    )
    model.freeze_feature_encoder()
    arguments = TrainingArguments(
        output_dir=str(options.output),
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulation,
        max_steps=options.updates,
        learning_rate=options.learning_rate,
        warmup_steps=options.updates // 10,
        logging_steps=max(options.updates // 100, 1),
        eval_strategy="steps",
        eval_steps=max(options.updates // 10, 1),
        save_steps=max(options.updates // 10, 1),
        seed=options.seed,
        remove_unused_columns=False,  # the collator makes the model's inputs of `audio` and `text`
        label_names=["labels"],
        include_for_metrics=["loss"],  # for the loss per label, which does not depend on the batches
        dataloader_pin_memory=torch.accelerator.is_available(),  # without one it is only warned about
        report_to=[],
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=valid,
        data_collator=CTCCollator(processor),
        processing_class=processor,  # saved with every checkpoint
        callbacks=[UpdateCallback()],
        preprocess_logits_for_metrics=GreedyIds(model),
        compute_metrics=ErrorRates(processor),
    )
    trainer.train()
    print(trainer.evaluate())
    trainer.save_model()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a pretrained checkpoint")
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--updates", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=8, help="clips at once on each process")
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
