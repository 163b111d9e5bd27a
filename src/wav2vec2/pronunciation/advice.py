"""What to change: the faults of an assessment as short sentences that say what to do."""

from collections.abc import Iterator, Sequence

from wav2vec2.pronunciation.assessment import AssessedPhone, AssessedWord, Assessment, Fault

#: Which one of several of a kind is meant.
_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def advice(assessment: Assessment) -> Iterator[tuple[AssessedWord, str]]:
    """Each word with a fault, and what to do about it."""
    for word in assessment.words:
        if word.omitted:
            yield word, "Not heard. Say it."
        elif all(phone.fault for phone in word.phones):
            yield word, f"Heard as “{''.join(phone.said for phone in word.phones)}”. Say it again."
        elif word.mispronounced:
            faults = [number for number, phone in enumerate(word.phones) if phone.fault is not None]
            yield word, " ".join(_sentence(word.phones, number) for number in faults)


def _sentence(phones: Sequence[AssessedPhone], number: int) -> str:
    phone = phones[number]
    if phone.fault is Fault.insertion:
        beside = f"after {phones[number - 1].text or phones[number - 1].said}" if number else "at the beginning"
        return f"Leave out {phone.said} {beside}."
    same = [place for place, other in enumerate(phones) if other.text == phone.text]
    which = f"the {_ORDINALS[same.index(number)]} {phone.text}" if 1 < len(same) <= len(_ORDINALS) else phone.text
    return f"Say {which}: it was not heard." if phone.fault is Fault.omission else f"Say {which}, not {phone.said}."


def on_pauses(assessment: Assessment) -> str:
    """How the utterance ran on, in a sentence."""
    rate = assessment.fluency
    if not rate.seconds:
        return "Nothing was heard."
    speed = f"{rate.words_per_minute:.0f} words a minute, {rate.phones_per_second:.1f} {assessment.unit} a second"
    if not rate.pauses:
        return f"{speed}, no pause."
    words = [word.text for word in assessment.words]
    places = ", ".join(f"{pause.end - pause.start:.1f} s before “{words[pause.after_word]}”" for pause in rate.pauses)
    return f"{speed}. Pauses: {places}."
