"""Are planted errors found? espeak-ng says sentences with a phone replaced, left out or put in, in voices that a model
of phones never heard; `assess` says what is wrong.

    python examples/studies/planted_errors.py DATA WORK

DATA is a folder with `speech/train-*.parquet`, of which the texts of one reader are taken, none of the audio; WORK is
where audio, the model and what was found go. What is done already is not done again.

The model is trained by the recipe `ctc_phonemes` from `small` on 54 voices, a third of whose sentences are as espeak
says them; in the others phones were exchanged at random, or the model would guess from the words what was not said.
Development voices choose the checkpoint and calibrate the scores, four others are the test.
"""

import json
import random
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from perturbed_speech import table, write_table
from planted_phones import Planted, Speaker, in_manifest, nonsense, plain, planted, sentences, spoken, written
from planted_results import figures, write_results

from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.pronunciation.assessing import Asked, assess, assess_each
from wav2vec2.pronunciation.assessment import AssessedPhone
from wav2vec2.pronunciation.calibrating import calibrate
from wav2vec2.pronunciation.calibration import CALIBRATION_FILE, read_calibration
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, Voice
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

RESULTS = Path(__file__).parent / "results" / "planted_errors.json"
READER, SEED = "kathleen", 1
#: Sentences that are kept apart for each test voice, and for each development voice to calibrate and to choose by; how
#: many of them a voice says; and clips of a training voice.
TEST, CALIBRATION, CHOICE, SAID, TRAINING = 40, 40, 20, 15, 12
KINDS = ("untouched", "substitution", "omission", "insertion")
#: The share of phones that are exchanged in two of three training clips.
NONSENSE = 0.4

#: What the recipe is changed in: so many voices need no other speeds.
SETTINGS = ["text.phonemes=en-us", "text.phonemes_given=true", "data.speeds=[]", "run.report=false"]
#: What can be tried, by name: more updates, labels on frames of 20 ms and not 40, and all weights trained.
RUNS = {
    "recipe": [],
    "longer": ["run.updates=2400"],
    "short-frames": ["model.config.ctc_head_stride=1"],
    "whole": ["tuning.freeze_updates=0", "tuning.keep_features=null", "optimizer.learning_rate=5e-4"],
}

Row = dict[str, str]


def american(voice: Voice) -> Voice:
    """The voice with the phones of American English, whatever its accent."""
    return replace(voice, accent="en-US")


def corpus(data: Path, work: Path) -> None:
    """All audio with its manifests, once."""
    if (work / "test.tsv").is_file():
        return
    texts = list(sentences(data / "speech", READER, 4, 8))
    held = TEST * len(TEST_VOICES), CALIBRATION * len(DEVELOPMENT_VOICES), CHOICE * len(DEVELOPMENT_VOICES)
    cuts = [sum(held[:number]) for number in range(4)]
    test, calibration, choice = (texts[cuts[number] : cuts[number + 1]] for number in range(3))
    speaker = Speaker(american(TEST_VOICES[0]).espeak_name)
    write_table(work / "train.tsv", list(_training(speaker, texts[cuts[3] :], work)))
    for name, voices, parts, kinds in (
        ("choice", DEVELOPMENT_VOICES, choice, KINDS[:1]),
        ("calibration", DEVELOPMENT_VOICES, calibration, KINDS),
        ("test", TEST_VOICES, test, KINDS),
    ):
        each = len(parts) // len(voices)
        rows: list[Row] = []
        for number, voice in enumerate(map(american, voices)):
            own = parts[number * each : (number + 1) * each][: SAID if len(kinds) > 1 else each]
            rows += _planted_rows(speaker, voice, own, kinds, work / name)
        write_table(work / f"{name}.tsv", rows)


def _training(speaker: Speaker, texts: list[str], work: Path) -> Iterator[Row]:
    for number, voice in enumerate(map(american, TRAINING_VOICES)):
        chance = random.Random(1000 * SEED + number)
        said = []
        for clip in range(TRAINING):
            letters = speaker.letters(chance.choice(texts))
            said.append(letters if clip % 3 == 0 else nonsense(letters, NONSENSE, chance))
        files = spoken(voice, [f"[[{written(one)}]]" for one in said], work / "train", number)
        for (path, seconds), letters in zip(files, said, strict=True):
            phones = " ".join(plain(speaker.ipa(letters)))
            yield {"path": str(path), "duration": f"{seconds:.4f}", "speaker": voice.name, "transcript": phones}


def _planted_rows(speaker: Speaker, voice: Voice, texts: list[str], kinds: tuple[str, ...], folder: Path) -> list[Row]:
    """Each sentence in each kind. The manifest also has what `wav2vec2 pronounce --calibrate` reads."""
    chance = random.Random(zlib.crc32(f"{folder.name} {voice.name}".encode()))
    found: list[Planted] = []
    for text in texts:
        ways = [planted(speaker, text, kind, chance) for kind in kinds]
        found += [way for way in ways if way is not None]
    files = spoken(voice, [one.text for one in found], folder, zlib.crc32(folder.name.encode()))
    return [
        {
            "path": str(path),
            "duration": f"{seconds:.4f}",
            "speaker": voice.name,
            "transcript": " ".join(plain(one.said)) if folder.name == "choice" else "",
            "phones": in_manifest(one.asked),
            "said": in_manifest(one.said),
            "kind": one.kind,
            "place": str(one.place),
            "instead": one.instead,
        }
        for one, (path, seconds) in zip(found, files, strict=True)
    ]


def trained(work: Path, name: str) -> Path:
    """The folder of the model of a run; a run that was stopped goes on."""
    output = work / name
    given = {
        "data.train.0.path": work / "train.tsv",
        "data.valid.0.path": work / "choice.tsv",
        "run.output": output,
        "run.seed": SEED,
    }
    settings = [f"{key}={value}" for key, value in given.items()] + SETTINGS + RUNS[name]
    if not (output / "model").is_dir():
        finetune(read_run(FinetuneRun, "ctc_phonemes", settings))
    return output / "model"


def assessed(work: Path, model: Path) -> Path:
    """What `assess` finds in every test recording, not calibrated, a line each; and a calibration beside the model."""
    target = model.parent / "assessed.jsonl"
    if target.is_file():
        return target
    transcriber = Transcriber.from_pretrained(str(model))
    if not (model / CALIBRATION_FILE).is_file():
        calibrate(transcriber, work / "calibration.tsv").save(model / CALIBRATION_FILE)
    rows = table(work / "test.tsv")
    lines = []
    asked = [Asked(Path(row["path"]), phones=row["phones"]) for row in rows]
    for row, one in zip(rows, assess_each(transcriber, asked), strict=True):
        if one.assessment is None:
            raise SystemExit(f"{row['path']}: {one.error}")
        words = [[_kept(phone) for phone in word.phones] for word in one.assessment.words]
        kept = {key: row[key] for key in ("speaker", "kind", "place", "instead", "duration", "phones")}
        lines.append(json.dumps(kept | {"words": words}, ensure_ascii=False))
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def _kept(phone: AssessedPhone) -> dict[str, object]:
    """What is asked for ("" if nothing is), its score, what was told instead, and the likeliest other."""
    others = [name for name, _ in phone.candidates if name != phone.text]
    return {"text": phone.text, "score": phone.score, "fault": phone.fault, "said": phone.said, "other": others[:1]}


def seconds_of(work: Path, model: Path) -> list[float]:
    """The seconds that `assess` takes for each of ten utterances of 2.5 to 3.5 s, on two threads, files read and all:
    the fastest of five, since other programs may run beside."""
    torch.set_num_threads(2)
    transcriber = Transcriber.from_pretrained(str(model))
    rows = [row for row in table(work / "test.tsv") if 2.5 <= float(row["duration"]) <= 3.5][:10]
    found = []
    for row in rows:
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            assess(transcriber, row["path"], phones=row["phones"])
            times.append(time.perf_counter() - begun)
        found.append(round(min(times), 4))
    return found


def main() -> None:
    """All of it, for each run that is named, or the first."""
    data, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    corpus(data, work)
    for name in sys.argv[3:] or list(RUNS)[:1]:
        model = trained(work, name)
        found = figures(assessed(work, model), read_calibration(model / CALIBRATION_FILE))
        write_results({name: found}, RESULTS)
        write_results({name: found | {"seconds": seconds_of(work, model)}}, RESULTS)


if __name__ == "__main__":
    main()
