"""An assessment as JSON, under the names of Azure's pronunciation assessment: what reads its answers reads ours.

Times are in ticks of 100 ns and scores between 0 and 100, as there. What Azure has no name for stands beside, in names
of our own: what is wrong with a phone and what was said instead, and what the scores were calibrated on.
"""

import json
from typing import Any

from wav2vec2.pronunciation.assessment import AssessedPhone, AssessedWord, Assessment, Fault

#: What an answer says of itself where nothing is known of its scores.
NOT_CALIBRATED = "not calibrated"

#: Said with every result, in every form.
NO_CLAIM = (
    "Nothing is claimed about human learners: how far such scores agree with what teachers hear in their speech "
    "has not been measured."
)

_TICKS = 10_000_000


def azure_json(assessment: Assessment) -> str:
    """The answer as Azure's detailed format has it, with one entry in `NBest`."""
    return json.dumps(_answer(assessment), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def calibration_in_words(assessment: Assessment) -> str:
    """What the scores of phones were compared with."""
    return NOT_CALIBRATED if assessment.calibration is None else assessment.calibration.in_words()


def _answer(assessment: Assessment) -> dict[str, Any]:
    text = " ".join(word.text for word in assessment.words)
    rate = assessment.fluency
    scores = {
        "AccuracyScore": _score(assessment.accuracy),
        "FluencyScore": _score(rate.score),
        "CompletenessScore": _score(assessment.completeness),
        "PronScore": _score(assessment.score),
    }
    best = {
        "Lexical": text.lower(),
        "Display": text,
        "PronunciationAssessment": scores,
        "Words": [_word(word) for word in assessment.words],
    }
    return {
        "RecognitionStatus": "Success",
        "Offset": 0,
        "Duration": _ticks(assessment.duration),
        "DisplayText": text,
        "NBest": [best],
        "Recording": assessment.name,
        "Unit": assessment.unit,
        "Calibration": calibration_in_words(assessment),
        "Claim": NO_CLAIM,
        "Fluency": {
            "PhonesPerSecond": round(rate.phones_per_second, 2),
            "WordsPerMinute": round(rate.words_per_minute, 1),
            "Pauses": [_times(pause.start, pause.end) | {"AfterWord": pause.after_word} for pause in rate.pauses],
        },
    }


def error_type(word: AssessedWord) -> str:
    """What Azure calls the fault of a word."""
    if word.omitted:
        return "Omission"
    return "Mispronunciation" if word.mispronounced else "None"


def _word(word: AssessedWord) -> dict[str, Any]:
    return {
        "Word": word.text,
        **_times(word.start, word.end),
        "PronunciationAssessment": {"AccuracyScore": _score(word.score), "ErrorType": error_type(word)},
        "Phonemes": [_phone(phone) for phone in word.phones],
    }


def _phone(phone: AssessedPhone) -> dict[str, Any]:
    nearest = [{"Phoneme": said, "Score": _score(chance)} for said, chance in phone.candidates]
    scores: dict[str, Any] = {"AccuracyScore": _score(phone.score), "NBestPhonemes": nearest}
    if phone.fault is not None:
        scores |= {"ErrorType": phone.fault.capitalize(), "SpokenPhoneme": phone.said}
    if phone.goodness is not None:
        scores["Goodness"] = round(phone.goodness, 4)
    named = phone.said if phone.fault is Fault.insertion else phone.text
    return {"Phoneme": named, **_times(phone.start, phone.end), "PronunciationAssessment": scores}


def _times(start: float, end: float) -> dict[str, int]:
    return {"Offset": _ticks(start), "Duration": _ticks(end) - _ticks(start)}


def _ticks(seconds: float) -> int:
    return round(seconds * _TICKS)


def _score(share: float) -> float:
    return round(100 * share, 1)
