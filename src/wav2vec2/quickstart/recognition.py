"""After training: a language model, its weights, the measurement, one transcript, and the folder to share."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.evaluation.evaluation import Decoding, Evaluation
from wav2vec2.evaluation.evaluation_files import save_evaluation
from wav2vec2.evaluation.evaluation_run import DataNames, Setup, evaluate_manifest, evaluated_model
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.inference.subtitle_formats import render
from wav2vec2.inference.transcriber import Transcriber, greedy_decoder
from wav2vec2.inference.transcript import Transcript
from wav2vec2.language_models.hub_language_model import DECODER_FILE
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.processing.manifests import read_manifest
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.sharing.model_card import CardFacts, facts_of_log, write_card
from wav2vec2.training.progress.training_log import FILE_NAME

#: Words that the language model looks at together; the texts are too few for more.
_ORDER = 3

#: Texts that beam search keeps: fewer than elsewhere, for time.
_BEAM = 32

#: The folder of the model that begins with random weights, and of what it was measured at.
SCRATCH = "scratch"

#: Punctuation is never written by the model, so it is not counted against it.
_NORMALISER = "basic"


@dataclass(frozen=True)
class DataDescription:
    """What the data is called where figures are published, and what the card says of it."""

    #: The name of the data set.
    name: str
    #: Its version, if it has one.
    revision: str | None
    #: What the audio is, in a sentence.
    sentence: str
    #: Under which licence the model may be used, as the Hub names it.
    licence: str
    #: Codes of ISO 639.
    languages: tuple[str, ...]
    #: What the model should not be used for, in sentences.
    limitations: tuple[str, ...]


def build_language_model(trained: Path, corpus: Corpus, model: Path) -> list[str]:
    """Copy the trained model, and put a decoder beside it, with a language model of the training texts and the weights
    that make the fewest errors on the development set."""
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(trained, model)
    transcriber = Transcriber.from_pretrained(model, device="cpu")
    normalise = transcriber.processor.tokenizer.normalization
    texts = [text for text in map(normalise, corpus.texts()) if text]
    language_model = NgramLanguageModel.train(texts, order=_ORDER, prune=(0,))
    greedy = greedy_decoder(transcriber.model, transcriber.processor)
    speller = greedy.speller
    decoder = CTCDecoder(
        speller.vocabulary,
        speller.blank,
        speller.word_delimiter,
        language_model=language_model,
        beam=_BEAM,
        frame_times=greedy.frame_times,
    )
    spoken = [one for one in read_manifest(corpus.development) if one.transcript]
    log_probs = [transcriber.log_probs(one.path)[0] for one in spoken]
    found = decoder.tune(log_probs, [normalise(one.transcript or "") for one in spoken])
    decoder.save_pretrained(model)
    return [
        f"{language_model.order}-grams of {len(texts)} training texts, {len(language_model.vocabulary) - 3} words",
        f"alpha {found.alpha:.2f}, beta {found.beta:.2f}: WER {found.error_rate_before:.1%} -> {found.error_rate:.1%} "
        f"on the {len(spoken)} recordings that the two were chosen by",
    ]


def measure(model: Path, scratch: Path, corpus: Corpus, data: DataDescription, output: Path) -> list[str]:
    """Evaluate greedy search and beam search on the test set, and greedy search of the model from scratch."""
    found = _evaluated(model, corpus, data, output)
    return [*evaluation_lines(found), *_beside_scratch(found, _evaluated(scratch, corpus, data, output / SCRATCH))]


def _evaluated(model: Path, corpus: Corpus, data: DataDescription, output: Path) -> Evaluation:
    """What a model does on the test set, kept in `output`."""
    transcriber = Transcriber.from_pretrained(model, device="cpu")
    names = DataNames(data.name, None, "test", data.revision)
    setup = Setup(_NORMALISER, names=names, language_model=f"{_ORDER}-grams of the training texts")
    evaluated = evaluate_manifest(transcriber, evaluated_model(str(model), transcriber), corpus.test, setup)
    save_evaluation(evaluated, output)
    return evaluated.evaluation


def _beside_scratch(pretrained: Evaluation, scratch: Evaluation) -> list[str]:
    """What pretraining is worth: both models with the same labels, greedy, on the same recordings."""
    ours, theirs = pretrained.decodings[0], scratch.decodings[0]
    lines = [
        f"the same labels, shape and updates from random weights, greedy: WER {theirs.wer.rate:.1%}, "
        f"CER {theirs.cer.rate:.1%}"
    ]
    if theirs.wer.rate:
        change = 1 - ours.wer.rate / theirs.wer.rate
        told = f"{change:.0%} fewer" if change > 0 else f"{-change:.0%} more" if change < 0 else "as many"
        lines.append(f"so the pretrained model makes {told} word errors than the one from scratch")
    return lines


def evaluation_lines(found: Evaluation) -> list[str]:
    """The error rates in sentences, with the data, the normaliser and the intervals that belong to them."""
    speakers = "unknown speakers" if found.speakers is None else f"{found.speakers} speakers"
    lines = [f"{found.utterances} recordings, {60 * found.hours:.1f} minutes, {speakers}: {found.data.name}, test"]
    lines += [_rate_line(one) for one in found.decodings]
    lines.append(f"normaliser {found.normalizer}; intervals 95 %, by bootstrap over utterances and over speakers")
    if found.failures:
        lines.append(f"{len(found.failures)} recordings could not be read and are in no figure")
    return lines


def _rate_line(one: Decoding) -> str:
    way = "greedy" if one.name == "greedy" else "with the language model"
    both = ((one.wer.interval, "other utterances"), (one.wer.speaker_interval, "other speakers"))
    told = [f"{100 * found.low:.1f} to {100 * found.high:.1f} for {of}" for found, of in both if found is not None]
    intervals = ", ".join(told) or "too few for an interval"
    return f"{way}: WER {one.wer.rate:.1%} ({intervals}), CER {one.cer.rate:.1%}"


def transcribe_one(model: Path, corpus: Corpus, output: Path) -> list[str]:
    """One recording of the test set with the times of its words, also as subtitles."""
    recording = next(iter(read_manifest(corpus.test)))
    found = Transcriber.from_pretrained(model, device="cpu").transcribe(recording.path)
    assert isinstance(found, Transcript)  # of one recording
    output.mkdir(parents=True, exist_ok=True)
    subtitles = output / f"{recording.path.stem}.srt"
    with replaced_file(subtitles) as stream:
        stream.write(render(found.words, "srt", recording.path.stem, found.duration).encode("utf-8"))
    return [
        f"said:  {recording.transcript}",
        f"heard: {found.text}",
        *(
            f"  {word.start:5.2f} s to {word.end:5.2f} s  {word.confidence:4.0%} sure  {word.text}"
            for word in found.words
        ),
        f"subtitles: {subtitles.name} in the folder {output.name}",
    ]


def write_model_card(model: Path, data: DataDescription, evaluation: Path, runs: dict[str, Path]) -> list[str]:
    """The card from the evaluation and the logs, with the reports' pictures. `runs` are folders by what was done."""
    measured = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))
    for name, folder in runs.items():
        if (folder / "report.png").is_file():
            shutil.copyfile(folder / "report.png", model / f"report_{name}.png")
    shutil.copyfile(evaluation / "evaluation.json", model / "evaluation.json")
    beside = Evaluation.from_json((evaluation / SCRATCH / "evaluation.json").read_text(encoding="utf-8")).decodings[0]
    facts = facts_of_log(runs["finetuning"] / FILE_NAME)
    before = facts_of_log(runs["pretraining"] / FILE_NAME)
    facts["model"] = (
        f"`{before['model']}`, the pretrained model that comes with wav2vec2, pretrained on for {before['updates']} "
        f"updates of {before['seconds_per_update']:g} s on {60 * before['hours']:.1f} minutes of audio without labels"
    )
    facts["data"] = data.sentence
    card = CardFacts(
        license=data.licence,
        languages=data.languages,
        title="wav2vec2-quickstart",
        limitations=(
            *data.limitations,
            "What pretraining was worth here: the same labels, shape and updates from random weights give "
            f"{100 * beside.wer.rate:.1f} % of word errors, greedy.",
        ),
        tags=("quickstart",),
    )
    write_card(model, card, measured, facts)
    with_decoder = " with its decoder" if (model / DECODER_FILE).is_file() else ""
    return [f"{model}: the model{with_decoder}, README.md (its card), evaluation.json, the curves of both runs"]
