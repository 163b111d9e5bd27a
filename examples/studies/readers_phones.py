"""Recognisers of phones for real readers: how many phones of their next sentences they get wrong, how many words that
were said well `wav2vec2 pronounce` marks, and how often it tells that another phone was asked for than was said.

    python examples/studies/readers_phones.py --data ../shared/data --work WORK [--tasks german] [--recipes ctc_crnn]

One reader a task, in the parts of the label-efficiency study (`labelled_speech.py`): all sentences but those of its
development and test are trained on, with what espeak-ng says them with as targets. The phones of the test sentences are
espeak's, too: where a reader says a word otherwise, that counts as an error. In each of them one phone is then asked
for otherwise, by the list below: a reader who said "cat" has said it wrong where "cap" was to be said.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from labelled_speech import READERS, Row, recordings
from perturbed_speech import write_table

from wav2vec2.evaluation.evaluation_run import evaluate_manifest, evaluated_model
from wav2vec2.evaluation.provenance import hardware
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.pronunciation.asked_for import AskedWord, Tokenizer, asked_for, sayable
from wav2vec2.pronunciation.assessing import Asked, assess_each
from wav2vec2.pronunciation.calibrating_models import calibrate_model
from wav2vec2.pronunciation.calibration import CALIBRATION_FILE, Calibration, read_calibration
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

RESULTS = Path(__file__).parent / "results" / "readers_phones.json"
#: espeak's language of each reader.
LANGUAGES = {"english": "en-us", "german": "de", "dutch": "nl"}
#: What each recipe is given besides: the classical network learns all of it from these recordings.
RECIPES = {"ctc_phonemes": [], "ctc_crnn": ["run.updates=3200"]}
SEED = 1
#: One of these phones may be asked for where the other was said; of what a language does not have, nothing is.
PAIRS = "p b,t d,k ɡ,f v,s z,s ʃ,m n,n ŋ,l ɹ,l ɾ,v w,iː ɪ,ɪ ɛ,ɛ æ,ɛ eɪ,ʌ ɑː,a aː,uː ʊ,ɔ oː,ə ɛ,ə ɪ,aɪ eɪ,oʊ ɔː"


Otherwise = tuple[list[AskedWord], int, int]


def trained(task: str, recipe: str, train: Path, valid: Path, output: Path) -> Path:
    """The folder of the model, calibrated on the development sentences as `wav2vec2 finetune` does it. What was stopped
    goes on."""
    given = {
        "text.phonemes": LANGUAGES[task],
        "data.train.0.path": train,
        "data.valid.0.path": valid,
        "run.output": output,
        "run.seed": SEED,
        "run.report": "false",
    }
    if not (output / "model").is_dir():
        finetune(read_run(FinetuneRun, recipe, [f"{key}={value}" for key, value in given.items()] + RECIPES[recipe]))
    if not (output / "model" / CALIBRATION_FILE).is_file():
        calibrate_model(output / "model", {valid: "transcript"}, has_phones=False)
    return output / "model"


def otherwise(words: Sequence[AskedWord], others: dict[int, list[int]], chance: random.Random) -> Otherwise:
    """The words with one token replaced, the place of it, and the token that was said there."""
    tokens = [token for word in words for token in word.tokens]
    place = chance.choice([at for at, token in enumerate(tokens) if token in others])
    said, tokens[place] = tokens[place], chance.choice(others[tokens[place]])
    left = iter(tokens)
    return [word._replace(tokens=tuple(next(left) for _ in word.tokens)) for word in words], place, said


def confused(ids: dict[str, int]) -> dict[int, list[int]]:
    """By token, those that may be asked for in its stead."""
    pairs = [tuple(ids[phone] for phone in pair.split() if phone in ids) for pair in PAIRS.split(",")]
    both = [pair for pair in pairs if len(pair) == 2]
    return {token: [b if a == token else a for a, b in both if token in (a, b)] for pair in both for token in pair}


def sentences(rows: Sequence[Row], tokenizer: Tokenizer, language: str) -> Iterator[Asked]:
    """Each recording with its phones; without those whose texts have a phone that the model never learnt."""
    for row in rows:
        try:
            yield Asked(Path(row["path"]), words=asked_for(tokenizer, row["transcript"], text_language=language))
        except ValueError as error:
            print(f"left out: {row['transcript']}: {error}")  # noqa: T201


def told(transcriber: Transcriber, asked: Sequence[Asked], calibration: Calibration | None) -> dict[str, Any]:
    """What `assess` tells of sentences in which all was said well, and of the same with a phone asked for otherwise."""
    ids = sayable(transcriber.processor.tokenizer)
    names, others, chance = {number: phone for phone, number in ids.items()}, confused(ids), random.Random(SEED)
    changed = [otherwise(one.words or (), others, chance) for one in asked]
    marks = words = flagged = named = 0
    for found in assess_each(transcriber, asked, calibration=calibration):
        assert found.assessment is not None
        words += len(found.assessment.words)
        marks += sum(any(phone.fault for phone in word.phones) for word in found.assessment.words)
    exchanged = [one._replace(words=new) for one, (new, _, _) in zip(asked, changed, strict=True)]
    assessed = assess_each(transcriber, exchanged, calibration=calibration)
    for found, (_, place, said) in zip(assessed, changed, strict=True):
        assert found.assessment is not None
        phone = [phone for phone in found.assessment.phones() if phone.text][place]
        flagged += phone.fault is not None
        named += phone.fault is not None and phone.said == names[said]
    return {"right words": words, "marked": marks, "asked otherwise": len(changed), "told": flagged, "named": named}


def figures(model: Path, test: Path, rows: Sequence[Row], language: str) -> dict[str, Any]:
    """All that is measured of a model."""
    transcriber = Transcriber.from_pretrained(str(model), device="cpu")
    evaluation = evaluate_manifest(transcriber, evaluated_model(str(model), transcriber), test).evaluation
    errors = evaluation.decodings[0].wer
    assert errors.interval is not None
    file = model / CALIBRATION_FILE
    calibration = read_calibration(file) if file.is_file() else None
    asked = list(sentences(rows, transcriber.processor.tokenizer, language))
    return {
        "phone error rate": [errors.rate, errors.interval.low, errors.interval.high],
        **told(transcriber, asked, calibration),
        "calibration": "not calibrated" if calibration is None else calibration.in_words(),
        "hardware": hardware(torch.device("cpu")),
    }


def page(results: dict[str, Any]) -> str:
    """The results as text."""
    rows = [
        "# Phones of readers\n\nMade by `python examples/studies/readers_phones.py`, whose first lines say what is "
        f"what; seed {SEED}, one run each, one thread of an Intel Xeon (Sapphire Rapids class, amx_bf16).\n"
        "The intervals are of other sentences.\n",
        "| reader | recipe | minutes | phone errors | 95 % | right words marked | asked otherwise: told, and named |",
        "|" + 7 * "---|",
    ]
    for name, one in results.items():
        task, recipe = name.split()
        value, low, high = (f"{100 * part:.1f} %" for part in one["phone error rate"])
        cells = [f"{READERS[task]} ({task})", f"`{recipe}`", f"{one['minutes']:.0f}", value, f"{low} to {high}"]
        cells += [f"{one['marked']} of {one['right words']} ({one['marked'] / one['right words']:.1%})"]
        cells += [f"{one['told']}, {one['named']} of {one['asked otherwise']}"]
        rows.append(f"| {' | '.join(cells)} |".replace("%)", " %)"))
    return "\n".join([*rows, "", *(f"- {name}: {one['calibration']}." for name, one in results.items())]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/readers_phones"))
    parser.add_argument("--tasks", nargs="+", choices=tuple(LANGUAGES), default=tuple(LANGUAGES))
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=tuple(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for task in options.tasks:
        parts = recordings(task, options.data, options.work)
        train_tsv, valid, test = (
            write_table(options.work / f"{task}_{name}.tsv", rows)
            for name, rows in (("train", parts.train), ("development", parts.development), ("test", parts.test))
        )
        for recipe in options.recipes:
            if f"{task} {recipe}" not in results:
                model = trained(task, recipe, train_tsv, valid, options.work / f"{task}_{recipe}")
                found = {"minutes": sum(float(row["duration"]) for row in parts.train) / 60}
                results[f"{task} {recipe}"] = found | figures(model, test, parts.test, LANGUAGES[task])
                RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                RESULTS.with_suffix(".md").write_text(page(results), encoding="utf-8")
    print(page(results))  # noqa: T201


if __name__ == "__main__":
    main()
