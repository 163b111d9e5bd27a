"""`transformers.Trainer` with our model and collator: the same weights, however an update is divided."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recognition_checkpoints import TOKENS, processor, talkative_model
from small_models import CALM
from torch import Tensor
from trainer_runs import BATCH, RATE, SEED, UPDATES, arguments, make_examples, make_model, train, train_in_two_processes
from transformers import Trainer

from wav2vec2.evaluation.scoring import error_rates
from wav2vec2.training.transformers_trainer import CTCCollator, ErrorRates, GreedyIds, UpdateCallback

Weights = dict[str, Tensor]

#: Trainer's own dealings with torch and Accelerate.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*use_cpu.*:FutureWarning"),
]


def reference() -> tuple[Weights, list[float]]:
    """The updates by hand, clip by clip: the sum of the losses over the number of labels, and a step of SGD."""
    model = make_model().train()
    collate, examples = CTCCollator(processor()), make_examples()
    losses = []
    for update in range(UPDATES):
        clips = [collate([example]) for example in examples[update * BATCH : (update + 1) * BATCH]]
        labels = sum(int((clip["labels"] >= 0).sum()) for clip in clips)
        model.zero_grad()
        total = 0.0
        for clip in clips:
            model.set_update(update, SEED)
            loss = model(**clip).loss / labels  # alone in its batch, the loss is the clip's own
            loss.backward()
            total += float(loss.detach())
        losses.append(total)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= RATE * parameter.grad
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, losses


@pytest.mark.slow
def test_every_division_of_an_update_gives_the_same_weights(tmp_path: Path) -> None:
    """Clips at once x parts x processes: 8, 2 x 4, 4 x 2 processes, 2 x 2 x 2 processes, and clip by clip by hand.

    Clips and transcripts differ in length, so a mean over parts or processes would be another; LayerDrop is on.
    """
    expected, losses = reference()
    start = dict(make_model().named_parameters())
    assert max(float((expected[name] - start[name].detach()).abs().max()) for name in start) > 1e-2
    found = [train(tmp_path, 8, 1), train(tmp_path, 2, 4), *train_in_two_processes(tmp_path, [(4, 1), (2, 2)])]
    for result in found:
        for name, weight in expected.items():
            torch.testing.assert_close(result["weights"][name], weight, atol=1e-5, rtol=1e-5)
        assert result["losses"] == pytest.approx(losses, rel=1e-3)


def test_layers_are_dropped_by_the_update_and_the_seed() -> None:
    """As `set_update` alone would have it, and not by what was drawn before."""
    model = make_model().train()
    callback = UpdateCallback()

    def states(prepare: Any) -> list[Tensor]:
        found = []
        for update in range(6):
            prepare(update)
            found.append(model(torch.ones(1, 3200).cumsum(1).sin()).logits.detach())
        return found

    told = states(lambda update: model.set_update(update, 11))
    args, state = SimpleNamespace(seed=11), SimpleNamespace()

    def call(update: int) -> None:
        state.global_step = update
        callback.on_step_begin(args, state, None, model=model)

    heard = states(call)
    assert all(torch.equal(a, b) for a, b in zip(told, heard, strict=True))
    assert len({float(one.sum()) for one in told}) > 1


@pytest.fixture
def examples() -> list[dict[str, Any]]:
    generator = np.random.default_rng(5)
    lengths, texts = [24000, 9000, 16000, 30000, 12000], ["ab", "hgfe dcba", "c", "aa bb", "d e"]
    swell = [generator.standard_normal(length) for length in lengths]
    return [{"audio": one.astype(np.float32), "text": text} for one, text in zip(swell, texts, strict=True)]


def test_evaluation_keeps_ids_of_real_frames_alone(tmp_path: Path, examples: list[dict[str, Any]]) -> None:
    """WER and CER in padded batches are those of each clip transcribed alone; no logits are kept."""
    model = talkative_model()
    trainer = Trainer(
        model=model,
        args=arguments(tmp_path, per_device_eval_batch_size=3),
        data_collator=CTCCollator(processor()),
        preprocess_logits_for_metrics=GreedyIds(model),
        compute_metrics=ErrorRates(processor()),
    )
    result = trainer.predict(examples)
    assert result.predictions.ndim == 2 and result.predictions.dtype == np.int64
    tokenizer, extractor = processor().tokenizer, processor().feature_extractor
    heard = []
    for example, ids in zip(examples, result.predictions, strict=True):
        inputs = extractor(example["audio"], sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            alone = model.eval()(inputs["input_values"]).logits[0].argmax(-1)
        assert ids[ids >= 0].tolist() == alone.tolist()
        heard.append(tokenizer.decode(alone))
    rates = error_rates([example["text"] for example in examples], heard)
    assert result.metrics["test_wer"] == pytest.approx(rates.wer)
    assert result.metrics["test_cer"] == pytest.approx(rates.cer)
    assert len(set(heard)) == len(heard)


def test_the_loss_per_label_of_an_evaluation_does_not_depend_on_its_batches(
    tmp_path: Path, examples: list[dict[str, Any]]
) -> None:
    """As clip by clip by hand; Trainer's own average does depend on them."""
    model, collate = make_model().eval(), CTCCollator(processor())
    found, averages = [], set()
    for size in (1, 2, 3, 5):
        trainer = Trainer(
            model=model,
            args=arguments(tmp_path, per_device_eval_batch_size=size, include_for_metrics=["loss"]),
            data_collator=collate,
            preprocess_logits_for_metrics=GreedyIds(model),
            compute_metrics=ErrorRates(processor()),
        )
        figures = trainer.evaluate(examples)
        found.append(figures["eval_loss_per_label"])
        averages.add(round(figures["eval_loss"], 2))
    clips = [collate([example]) for example in examples]
    with torch.no_grad():
        total = sum(float(model(**clip, num_items_in_batch=1).loss) for clip in clips)
    labels = sum(int((clip["labels"] >= 0).sum()) for clip in clips)
    assert found == pytest.approx([total / labels] * 4, rel=1e-5)
    assert len(averages) > 1


def test_integers_are_scaled_and_channels_are_not_put_behind_each_other() -> None:
    """As the feature extractor does it, whose values without normalisation tell."""
    own = processor()
    own.feature_extractor.do_normalize = False
    collate = CTCCollator(own)
    samples = np.array([-32768, 0, 16384] * 400, np.int16)
    for audio in (samples, {"array": samples, "sampling_rate": 16000}):
        assert collate([{"audio": audio, "text": "a"}])["input_values"][0, :3].tolist() == [-1.0, 0.0, 0.5]
    values = np.ones((2, 3200), np.float32)
    with pytest.raises(ValueError, match=r"`input_values` of an example has shape \(2, 3200\)"):
        collate([{"input_values": values, "text": "a"}])
    with pytest.raises(ValueError, match=r"`audio` of an example has shape \(2, 3200\)"):
        collate([{"audio": values, "text": "a"}])
    assert collate([{"input_values": values[:1], "text": "a"}])["input_values"].shape == (1, 3200)


def test_labels_with_doubles_are_read_as_they_stand() -> None:
    """Ids of labels are not a path: two equal letters are two."""
    ids = [TOKENS.index(letter) for letter in "aa|bb"]
    prediction = SimpleNamespace(
        predictions=np.array([[3, 3, 0, 3, 2, 4, 0, 4, -100]]), label_ids=np.array([[*ids, -100, -100]])
    )
    assert ErrorRates(processor())(prediction) == {"wer": 0.0, "cer": 0.0}


def test_batches_are_those_of_the_feature_extractor_and_tokenizer(examples: list[dict[str, Any]]) -> None:
    """Padding aside: values, masks, ids; from arrays, from `datasets`' form and from what was extracted before."""
    collate, own = CTCCollator(processor()), processor()
    batch = collate(examples)
    expected = own.feature_extractor(
        [example["audio"] for example in examples], sampling_rate=16000, padding=True, return_tensors="pt"
    )
    torch.testing.assert_close(batch["input_values"], expected["input_values"])
    assert torch.equal(batch["attention_mask"], torch.as_tensor(expected["attention_mask"]).long())
    for example, row in zip(examples, batch["labels"], strict=True):
        assert [TOKENS[index] for index in row[row >= 0]] == list(example["text"].replace(" ", "|"))
        assert set(row[row < 0].tolist()) <= {-100}
    other = [
        {"audio": {"array": one["audio"], "sampling_rate": 16000}, "labels": row[row >= 0].tolist()}
        for one, row in zip(examples, batch["labels"], strict=True)
    ]
    extracted = [
        {"input_values": own.feature_extractor(one["audio"], sampling_rate=16000).input_values[0], "text": one["text"]}
        for one in examples
    ]
    for given in (other, extracted):
        again = collate(given)
        assert all(torch.equal(again[name], batch[name]) for name in batch)


def test_faults_are_named() -> None:
    """Columns that Trainer took away, and audio at another rate."""
    collate = CTCCollator(processor())
    with pytest.raises(ValueError, match="remove_unused_columns=False"):
        collate([{"labels": [3]}])
    with pytest.raises(ValueError, match="44100"):
        collate([{"audio": {"array": np.zeros(44100, np.float32), "sampling_rate": 44100}, "text": "a"}])
    assert CALM["layerdrop"] == 0.0
