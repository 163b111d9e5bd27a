"""Characters that a vocabulary lacks: which, how often, and why."""

from collections import Counter
from collections.abc import Iterable, Mapping

from wav2vec2.processing.text_normalization import is_digit, normal_form, shorten


class UnknownCharactersError(ValueError):
    """A text has characters without a token. `characters` counts them."""

    def __init__(self, message: str, characters: Mapping[str, int]) -> None:
        super().__init__(message)
        self.characters = Counter(characters)


def letter_case(tokens: Iterable[str]) -> str | None:
    """ "lower" or "upper", whichever most one-letter tokens are; None for scripts without case."""
    letters = [token for token in tokens if len(token) == 1]
    lower = sum(letter != letter.upper() for letter in letters)
    upper = sum(letter != letter.lower() for letter in letters)
    if lower == upper == 0:
        return None
    return "upper" if upper > lower else "lower"


def unknown_characters(text: str, unknown: Mapping[str, int], tokens: Mapping[str, int]) -> str:
    """What a text has that the tokens cannot spell, and for each kind of cause what to do."""
    listed = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    names = [f"{character!r} ({code_points(character)}) x{count}" for character, count in listed[:20]]
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    causes = "; ".join(_causes(text, unknown, tokens))
    return (
        f"{len(listed)} not in the vocabulary of {len(tokens)} tokens: {', '.join(names)}{more}, in {shorten(text)}. "
        f"{causes}"
    )


def code_points(text: str) -> str:
    """U+0041 for "A"; several are joined by a space."""
    return " ".join(f"U+{ord(character):04X}" for character in text)


def _causes(text: str, unknown: Mapping[str, int], tokens: Mapping[str, int]) -> list[str]:
    causes = []
    if any(swapped != character and swapped in tokens for character in unknown for swapped in _other_case(character)):
        case = letter_case(tokens)
        other = "upper" if case == "lower" else "lower"
        causes.append(f"the vocabulary is {case} case and the text has {other} case: pass do_lower_case=True")
    for form in ("NFC", "NFD"):
        if not any(character not in tokens and not character.isspace() for character in _normal(form, text)):
            causes.append(f"the vocabulary is written in {form}: unicodedata.normalize({form!r}, text)")
            break
    if any(len(character) == 1 and is_digit(character) for character in unknown):
        causes.append("spell numbers out")
    blank = [piece for piece in unknown if piece in tokens]
    if blank:
        causes.append(f"{blank[0]!r} is the CTC blank, which no text may hold")
    if " " in unknown:
        causes.append("the vocabulary has no word delimiter: take the spaces out of the text")
    if not causes:
        causes.append("build_vocabulary(texts) makes a vocabulary that has them")
    return causes


def _other_case(character: str) -> tuple[str, str]:
    return character.lower(), character.upper()


def _normal(form: str, text: str) -> str:
    normal = normal_form(form, text)
    return normal if normal != text else "\0"
