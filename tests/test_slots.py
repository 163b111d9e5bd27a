"""Slots: heads that give each a value, texts that mark them, and the figures that both are judged by."""

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from classification_runs import TINY, tone, write
from small_models import small_config
from training_audio import RATE
from typer.testing import CliRunner

from wav2vec2 import Wav2Vec2CTCTokenizer, Wav2Vec2ForSlots, build_vocabulary
from wav2vec2.baselines import CRNNConfig, CRNNForSlots, DepthwiseCNNConfig, DepthwiseCNNForSlots
from wav2vec2.command_line.app import app
from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.slot_scoring import slot_scores
from wav2vec2.inference.slot_reader import SlotReader
from wav2vec2.modeling.slot_values import SlotValues
from wav2vec2.processing.slot_tables import slots_of_text
from wav2vec2.processing.slot_texts import marked, read_slots

VALUES = SlotValues({"size": ["large", "small"], "milk": ["soy milk", "milk", "cream"]})
SAID = [
    "a <size>small</size> latte",
    "latte with <milk>soy milk</milk>",
    "it's <size>large</size> and <milk>milk</milk>",
]


def distance(a: str, b: str) -> int:
    """Levenshtein's, by its table."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]


def superb(said: list[dict[str, list[str]]], heard: list[dict[str, list[str]]]) -> tuple[float, float]:
    """Slot-type F1 and slot-value CER, word for word as SUPERB describes them."""
    f1s, edits, characters = [], 0, 0
    for reference, answer in zip(said, heard, strict=True):
        if not reference and not answer:
            f1s.append(1.0)
        elif not reference or not answer:
            f1s.append(0.0)
        else:
            recall = sum(name in answer for name in reference) / len(reference)
            precision = sum(name in reference for name in answer) / len(answer)
            f1s.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        for name, values in reference.items():
            for value in values:
                edits += min((distance(value, one) for one in answer.get(name, [""])), default=0)
                characters += len(value)
    return sum(f1s) / len(f1s), edits / max(characters, 1)


def drawn_slots(generator: random.Random) -> dict[str, list[str]]:
    values = ["soy milk", "milk", "a bit of milk", "small", "smell"]
    return {
        name: [generator.choice(values) for _ in range(generator.randint(1, 2))]
        for name in "abc"
        if generator.random() < 0.5
    }


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_what_is_counted_one_by_one(seed: int) -> None:
    generator = random.Random(seed)
    said, heard = ([drawn_slots(generator) for _ in range(30)] for _ in range(2))
    heard[:10] = said[:10]
    found = slot_scores(said, heard, Resampling(resamples=200))
    assert (found.slot_type_f1.value, found.slot_value_cer.value) == pytest.approx(superb(said, heard), abs=1e-6)

    def counted(slots: dict[str, list[str]], name: str) -> Counter[str]:
        return Counter(slots.get(name, []))

    f1s, right, both = {}, 0, 0
    for name in "abc":
        pairs = [(counted(a, name), counted(b, name)) for a, b in zip(said, heard, strict=True)]
        hits, total = sum((a & b).total() for a, b in pairs), sum(a.total() + b.total() for a, b in pairs)
        f1s[name] = 2 * hits / total
        right, both = right + hits, both + total
    assert found.f1_of_slots == pytest.approx(f1s)
    assert found.slot_f1.value == pytest.approx(2 * right / both)
    assert found.macro_slot_f1.value == pytest.approx(sum(f1s.values()) / 3)
    same = [all(counted(a, n) == counted(b, n) for n in "abc") for a, b in zip(said, heard, strict=True)]
    assert found.whole.value == pytest.approx(np.mean(same))
    for figure in (found.slot_f1, found.slot_type_f1, found.slot_value_cer, found.whole, found.macro_slot_f1):
        assert figure.interval is not None
        assert figure.interval.low <= figure.value <= figure.interval.high
        assert figure.interval.low < figure.interval.high
    perfect = slot_scores(said, said)
    assert perfect.slot_f1.value == perfect.slot_type_f1.value == perfect.whole.value == 1.0
    assert perfect.slot_value_cer.value == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_marks_are_read_as_superb_reads_them(seed: int) -> None:
    """Its expression, over texts with marks in any order. Two marks never stand together, since around nothing it goes
    on to the next mark, and ours does not."""
    generator = random.Random(seed)
    pieces = [generator.choice(["B-x", "E-x", "B-y", "E-y", "a", "b c", "c"]) for _ in range(12)]
    pieces = [a for a, b in pairwise([*pieces, "a"]) if not (re.match("[BE]-", a) and re.match("[BE]-", b))]
    text = " ".join(["z", *pieces, "z"])
    found = re.findall(r"B-(\S+) (.+?) E-\1", text)
    slots = [(name, " ".join(re.sub(r"[BE]-\S+", "", value).split())) for name, value in found]
    assert [(slot.name, slot.value) for slot in read_slots(text).slots] == slots
    assert read_slots(text).text == " ".join(re.sub(r"[BE]-\S+", "", text).split())


def test_marks_that_belong_to_nothing() -> None:
    assert read_slots("a <x>b c").slots == read_slots("a</x> b").slots == read_slots("<x></x> a").slots == ()
    nested = read_slots("<x>a <y>b</y></x> <y>c</y>")
    assert [(slot.name, slot.value) for slot in nested.slots] == [("x", "a b"), ("y", "c")]
    assert nested.text == "a b c"


def test_values_are_marked_where_they_are_said() -> None:
    slots = {"milk": "soy milk", "more": "milk"}
    assert marked("milk and soy milk", slots) == "<more>milk</more> and <milk>soy milk</milk>"
    assert {slot.name: slot.value for slot in read_slots(marked("milk and soy milk", slots)).slots} == slots
    with pytest.raises(ValueError, match=r"'cream' \(milk\) is not said in 'soy milk'"):
        marked("soy milk", {"milk": "cream"})
    with pytest.raises(ValueError, match="slot 'pad'"):
        marked("soy milk", {"pad": "soy"})


def test_marks_are_single_tokens(tmp_path: Path) -> None:
    """They survive the normalisation, saving, and stock Transformers, which decodes the same text."""
    vocabulary = build_vocabulary(SAID, slots=True)
    assert list(vocabulary.tokens)[-4:] == ["<milk>", "</milk>", "<size>", "</size>"]
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary, strict=True)
    tokenizer.save_pretrained(tmp_path)
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    stock = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    for text in SAID:
        ids = tokenizer(text).input_ids
        assert (
            ids
            == again(
                text.replace("<size>", " <size> ").upper().replace("SIZE", "size").replace("MILK>", "milk>")
            ).input_ids
        )
        assert tokenizer.decode_labels(ids) == text
        path = [one for index in ids for one in (index, tokenizer.blank_id)]
        assert stock.decode(path) == again.decode(path) == text
    assert tokenizer("a B-size small E-size latte").input_ids == tokenizer(SAID[0]).input_ids
    plain = Wav2Vec2CTCTokenizer.from_vocabulary(build_vocabulary(["a size latte"]))
    assert plain("a <size> latte").input_ids == plain("a size latte").input_ids  # a word where no token is


def small_slot_models() -> list[Any]:
    labels: dict[str, Any] = {"id2label": dict(enumerate(VALUES.labels))}
    torch.manual_seed(0)
    models: list[Any] = [
        Wav2Vec2ForSlots(small_config(**labels)),
        Wav2Vec2ForSlots(small_config(**labels, ctc_head="recurrent", ctc_head_size=20)),
        CRNNForSlots(CRNNConfig(**labels, channels=4, hidden_size=8)),
        DepthwiseCNNForSlots(DepthwiseCNNConfig(**labels)),
    ]
    return [model.eval() for model in models]


def test_models_for_slots(tmp_path: Path) -> None:
    """A clip alone equals itself in a padded batch; loss and slots are what the logits say; they load as saved."""
    torch.manual_seed(1)
    waveforms, mask = torch.randn(2, 8000), torch.ones(2, 8000, dtype=torch.long)
    mask[1, 5000:], waveforms[1, 5000:] = 0, 0.0
    labels = torch.tensor([[1, 0], [2, 3]])
    for number, model in enumerate(small_slot_models()):
        with torch.no_grad():
            output = model(waveforms, attention_mask=mask, labels=labels)
            alone = model(waveforms[1:, :5000], labels=labels[1:], num_items_in_batch=1)
        assert torch.allclose(output.logits[1], alone.logits[0], atol=1e-5)
        assert list(output.slot_logits) == ["size", "milk"] and model.slots == VALUES.slots
        each = [
            F.cross_entropy(output.logits[:, :3], labels[:, 0]),
            F.cross_entropy(output.logits[:, 3:], labels[:, 1]),
        ]
        assert output.loss.item() == pytest.approx(float(sum(each)), abs=1e-5)
        best = [output.logits[:, :3].argmax(-1), output.logits[:, 3:].argmax(-1)]
        assert VALUES.chosen(output.logits).tolist() == torch.stack(best, -1).tolist()
        model.save_pretrained(tmp_path / str(number))
        again = type(model).from_pretrained(tmp_path / str(number)).eval()
        assert torch.equal(again(waveforms, attention_mask=mask).logits, output.logits)
    stock = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(tmp_path / "0").eval()
    linear = Wav2Vec2ForSlots.from_pretrained(tmp_path / "0").eval()
    assert torch.allclose(stock(waveforms[:1]).logits, linear(waveforms[:1]).logits, atol=1e-5)
    assert stock.config.id2label[1] == "size=large"


def test_an_unknown_value_costs_nothing() -> None:
    logits, labels = torch.randn(2, 7), torch.tensor([[-1, 2], [-100, -100]])
    assert VALUES.loss(logits, labels, None).item() == pytest.approx(
        F.cross_entropy(logits[:1, 3:], labels[:1, 1]).item(), abs=1e-6
    )
    with pytest.raises(ValueError, match="label 'LABEL_0': must be a slot's name"):
        Wav2Vec2ForSlots(small_config())


@pytest.mark.parametrize("text", ["eight ounce", "[1]", '{"size": ["a"]}', '{"si=ze": "a"}'])
def test_what_is_no_slot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        slots_of_text(text)


def orders(folder: Path, count: int, first: int, column: str) -> Path:
    """A high or a low tone, or none, and then another; what they are as an object, or marked in a text."""
    rows = []
    for number in range(count):
        pitch, pace = [None, "low", "high"][number % 3], ["slow", "fast"][number // 3 % 2]
        samples = 0.05 * np.random.default_rng(first + number).standard_normal(round(0.8 * RATE))
        if pitch:
            samples[: RATE * 2 // 5] += tone({"low": 250.0, "high": 2500.0}[pitch], 0.4, first + number)
        samples[RATE * 2 // 5 :] += tone({"slow": 700.0, "fast": 5000.0}[pace], 0.4, first + number)
        told = {"pitch": pitch, "pace": pace} if pitch else {"pace": f" {pace} "}
        text = marked(f"{pitch or ''} {pace}", {name: value.strip() for name, value in told.items() if value})
        rows.append((f"{number}.wav", samples, "", json.dumps(told) if column == "slots" else text))
    manifest = write(folder, rows)
    manifest.write_text(manifest.read_text().replace("\tlabel\n", f"\t{column}\n"))
    return manifest


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.slow
def test_a_run_of_slots(tmp_path: Path) -> None:
    """Trained, evaluated, asked, and told what is wrong, by the commands."""
    train, valid = orders(tmp_path / "train", 120, 0, "slots"), orders(tmp_path / "valid", 12, 500, "slots")
    given = [f"data.train.0.path={train}", f"data.valid.0.path={valid}", f"run.output={tmp_path / 'run'}", *TINY]
    given += ["run.updates=60", "run.evaluate_every=60", "run.save_every=60", "data.seconds_per_update=12"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("task: slots\n")
    done = command("finetune", recipe, *given)
    assert done.exit_code == 0, done.output
    model = tmp_path / "run" / "model"
    assert json.loads((model / "config.json").read_text())["architectures"] == ["Wav2Vec2ForSlots"]
    shown = command("evaluate", "-m", model, "--data", valid, "--output", tmp_path / "evaluation")
    assert shown.exit_code == 0, shown.output
    scores = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["scores"]
    assert scores["clips"] == 12 and scores["said"] == 20
    assert scores["slot_f1"]["value"] > 0.8
    asked = command("predict", "-m", model, "-f", "jsonl", valid.parent / "1.wav", tmp_path / "missing.wav")
    assert asked.exit_code == 1 and "missing.wav" in asked.output
    answer = json.loads(next(line for line in asked.output.splitlines() if line.startswith("{")))
    assert {slot["name"] for slot in answer["slots"]} <= {"pitch", "pace"}
    (valid.parent / "wrong.tsv").write_text("path\tslots\n1.wav\tfast\n")
    wrong = command("evaluate", "-m", model, "--data", valid.parent / "wrong.tsv")
    assert wrong.exit_code == 1 and "1.wav: 'fast': must be slots and their values" in wrong.output
    network = ["model.preset=crnn", "tuning.freeze_updates=0", "run.updates=2", f"run.output={tmp_path / 'crnn'}"]
    few = [f"data.train.0.path={valid}", "data.workers=0", "data.seconds_per_update=5", "run.report=false"]
    assert (done := command("finetune", recipe, *few, *network)).exit_code == 0, done.output
    assert set(SlotReader.from_pretrained(tmp_path / "crnn" / "model").names) == {"pitch", "pace"}
    other = command("finetune", recipe, *given[1:], f"data.train.0.path={valid.parent / 'wrong.tsv'}")
    assert other.exit_code == 1 and "'fast': must be slots" in other.output


@pytest.mark.slow
def test_a_run_of_marked_texts(tmp_path: Path) -> None:
    """CTC with marks: the vocabulary has them, evaluations count slots, and the commands read them with times."""
    train, valid = orders(tmp_path / "train", 48, 0, "transcript"), orders(tmp_path / "valid", 12, 500, "transcript")
    given = [f"data.train.0.path={train}", f"data.valid.0.path={valid}", f"run.output={tmp_path / 'run'}", *TINY]
    given += ["text.slots=true", "text.judged_by=slot_error", "tuning.freeze_updates=0", "data.on_problems=warn"]
    given += ["run.updates=4", "run.evaluate_every=4", "run.save_every=4", "data.seconds_per_update=12"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("task: ctc\n")
    done = command("finetune", recipe, *given)
    assert done.exit_code == 0, done.output
    model = tmp_path / "run" / "model"
    assert {"<pitch>", "</pitch>", "<pace>", "</pace>"} <= set(json.loads((model / "vocab.json").read_text()))
    shown = command("evaluate", "-m", model, "--data", valid, "--json")
    assert json.loads(shown.output[shown.output.index("{") :])["scores"]["said"] == 20
    reader = SlotReader.from_pretrained(model)
    assert reader.names == ["pace", "pitch"] and reader.writes
    ids = reader.tokenizer("low <pace>fast</pace>").input_ids
    frames = [reader.tokenizer.blank_id] * 2 + [
        one for index in ids for one in (index, index, reader.tokenizer.blank_id)
    ]
    logits = F.one_hot(torch.tensor(frames), len(reader.tokenizer)).float()
    slots, text = reader._written(logits, RATE * 10)
    # l, o, w, | and the mark, three frames each after the first two, come before the first letter
    assert text == "low fast" and [(slot.name, slot.value) for slot in slots] == [("pace", "fast")]
    assert slots[0].start == pytest.approx((2 + 3 * 5) * 0.02) and slots[0].end == pytest.approx((2 + 3 * 8 + 2) * 0.02)
