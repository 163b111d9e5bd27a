"""Speech recognition with `transformers.Trainer`: read from top to bottom, change the constants, run it.

    python examples/finetune_ctc.py
    accelerate launch examples/finetune_ctc.py   # several GPUs: an update and its result stay the same

What is particular to these models: the collator, the callback that tells the model which update comes, and token ids
instead of logits at evaluation. The same without a script is `wav2vec2 finetune`.
"""

from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from wav2vec2 import (
    CTCCollator,
    Transcriber,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    build_vocabulary,
    load_audio,
    read_manifest,
)
from wav2vec2.training.transformers_trainer import ErrorRates, GreedyIds, UpdateCallback

MODEL = "facebook/wav2vec2-base"  # pretrained; for other languages than English facebook/wav2vec2-xls-r-300m
TRAIN = "train.tsv"  # manifests: a header with the columns path and transcript
VALID = "dev.tsv"
OUTPUT = "outputs/finetuned"
UPDATES = 5_000
LEARNING_RATE = 1e-4
CLIPS, ACCUMULATION = 8, 1  # in a batch on each process, and batches in an update: lower the one, raise the other


class Recordings(Dataset[dict[str, Any]]):
    """The recordings of a manifest that have a transcript, decoded when they are needed."""

    def __init__(self, manifest: str) -> None:
        self.recordings = [one for one in read_manifest(manifest) if one.transcript]

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"audio": load_audio(self.recordings[index].path), "text": self.recordings[index].transcript}


# 1. The data. Any data set of `audio` (samples at 16 kHz) and `text` will do.
train, valid = Recordings(TRAIN), Recordings(VALID)

# 2. The processor: samples are scaled as the checkpoint wants it, letters get numbers. The vocabulary keeps its choices
#    of case and punctuation with the tokenizer, so that references are written the same way wherever they are scored.
vocabulary = build_vocabulary([one.transcript or "" for one in train.recordings])
tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary, strict=True)
processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor.from_pretrained(MODEL), tokenizer)

# 3. The model: the pretrained encoder, and a new head for these letters. The convolutions stay as they are.
model = Wav2Vec2ForCTC.from_pretrained(MODEL, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
model.freeze_feature_encoder()

# 4. The training.
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=OUTPUT,
        per_device_train_batch_size=CLIPS,
        per_device_eval_batch_size=CLIPS,
        gradient_accumulation_steps=ACCUMULATION,
        max_steps=UPDATES,
        learning_rate=LEARNING_RATE,
        warmup_steps=UPDATES // 10,
        eval_strategy="steps",
        eval_steps=max(UPDATES // 10, 1),
        save_steps=max(UPDATES // 10, 1),
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        remove_unused_columns=False,  # the collator makes the model's inputs of `audio` and `text`
        label_names=["labels"],
        include_for_metrics=["loss"],  # for the loss per label, which does not depend on the batches
        dataloader_pin_memory=torch.accelerator.is_available(),
    ),
    train_dataset=train,
    eval_dataset=valid,
    data_collator=CTCCollator(processor),
    processing_class=processor,  # saved with every checkpoint
    callbacks=[UpdateCallback()],
    preprocess_logits_for_metrics=GreedyIds(model),
    compute_metrics=ErrorRates(processor),
)
trainer.train()

# 5. How good it is, and a folder that `Transcriber`, `wav2vec2 evaluate` and `wav2vec2 push` take.
print(trainer.evaluate())
trainer.save_model()
if trainer.is_world_process_zero():
    for transcript in Transcriber.from_pretrained(OUTPUT).transcribe_each([valid.recordings[0].path]):
        print(transcript.text)
