"""What a model's odds are worth: recordings of which is known what was said in them, and the curve they ask for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wav2vec2.evaluation.scoring import score_utterances
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.listener import Progress
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.manifests import Recording, read_manifest
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.pronunciation.asked_for import asked_for
from wav2vec2.pronunciation.assessing import Asked, head_sha256, said_each
from wav2vec2.pronunciation.calibration import Calibration, area_under_curve, brier_score, fitted, logistic, sha256_of


def calibrate(
    transcriber: Transcriber, manifest: Path, text_language: str | None = None, progress: Progress | None = None
) -> Calibration:
    """The calibration by a manifest of recordings that the model never learnt from.

    Its columns, besides `path`: `transcript`, `phones`, or both, for what was asked; and `said` for what was really
    said, as phones, or as a text where the model has letters. `speaker` is counted. What is wrong with a recording is a
    ValueError that names it: a calibration on some of them would not be the one that was asked for.
    """
    recordings = list(read_manifest(manifest))
    odds: list[float] = []
    right: list[bool] = []
    asked = (_asked(one) for one in recordings)
    for recording, said in zip(recordings, said_each(transcriber, asked, text_language, progress), strict=True):
        try:
            if said.error is not None:
                raise said.error
            told = _said(transcriber, recording)
        except (ValueError, OSError) as error:
            name = "" if str(recording.path) in str(error) else f"{recording.path}: "
            raise ValueError(f"{manifest}: {name}{error}") from error
        of_asked = {place.slot.asked: place.log_odds for place in said.spoken.places}
        odds += [of_asked[place] for place in range(len(said.asked))]
        right += said_as_asked(said.asked, told)
    try:
        slope, intercept = fitted(odds, right)
    except ValueError as error:
        raise ValueError(f"{manifest}: {error}") from error
    curve = Calibration(
        slope=slope,
        intercept=intercept,
        data=manifest.name,
        data_sha256=sha256_of(manifest.read_bytes()),
        model_sha256=head_sha256(transcriber),
        recordings=len(recordings),
        speakers=len({one.speaker for one in recordings} - {None}),
        phones=len(right),
        wrong=right.count(False),
        auc=area_under_curve(odds, right),
        brier_before=brier_score([logistic(one) for one in odds], right),
        brier=0.0,
    )
    return replace(curve, brier=brier_score([curve.probability(one) for one in odds], right))


def said_as_asked(asked: Sequence[int], said: Sequence[int]) -> list[bool]:
    """Whether each asked token was said, by a cheapest edit of what was asked into what was said.

    >>> said_as_asked([1, 2, 3, 4], [1, 5, 4])
    [True, False, False, True]
    """
    (score,) = score_utterances([" ".join(map(str, asked))], [" ".join(map(str, said))])
    return [edit.kind == "hit" for edit in score.edits if edit.reference is not None]


def _asked(recording: Recording) -> Asked:
    audio = AudioInput(str(recording.path), recording.path)
    return Asked(audio, recording.transcript or None, recording.others.get("phones") or None)


def _said(transcriber: Transcriber, recording: Recording) -> list[int]:
    """What was really said, in tokens."""
    said = recording.others.get("said", "")
    if not said.split():
        raise ValueError("nothing in the column `said`, which holds what was really said")
    tokenizer = transcriber.processor.tokenizer
    has_phones = isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer)
    words = asked_for(tokenizer, phones=said) if has_phones else asked_for(tokenizer, said)
    return [token for word in words for token in word.tokens]
