"""The text choices that a model was trained under, as a normaliser; and which characters a model can never write.

A run counts its errors against references in the form that its tokenizer gives them. Against other references a perfect
recogniser has errors in every sentence, so `model`, this form, is what an evaluation takes unless it is told otherwise.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wav2vec2.evaluation.normalisers import NORMALISERS, Normaliser, normaliser
from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.vocabulary import code_points

#: The name of the treatment that is saved with the model's tokenizer.
MODEL = "model"

#: Characters that a warning names.
_SHOWN = 10


def normaliser_of(name: str, tokenizer: Any) -> Normaliser:
    """The normaliser of that name, where `model` is the tokenizer's; of one that changes nothing it is `none`."""
    if name != MODEL:
        if name not in NORMALISERS:
            raise ValueError(f"normalizer={name!r}: must be one of {', '.join((MODEL, *NORMALISERS))}")
        return normaliser(name)
    choices: TextNormalization = tokenizer.normalization
    if getattr(tokenizer, "do_lower_case", False):  # its texts are then in small letters, whatever its tokens are
        choices = replace(choices, case="lower")
    if choices.digits == "refuse":  # a digit in a reference is not refused here: it counts as an error
        choices = replace(choices, digits="keep")
    made = [f"{choice} {value}" for choice, value in choices.to_dict().items() if value != "keep"]
    if not made:
        return normaliser("none")
    return Normaliser(MODEL, f"the text choices saved with the model's tokenizer: {', '.join(made)}", choices)


def unwritable(references: Sequence[str], treat: Normaliser, tokenizer: Any) -> str | None:
    """What in these references the model has no token for, in a sentence; None if it can write them all.

    Each such character is an error that no training could avoid. Where another normaliser leaves fewer, it is named.
    """
    counts = {name: _unknown(references, normaliser_of(name, tokenizer), tokenizer) for name in (MODEL, *NORMALISERS)}
    found = _unknown(references, treat, tokenizer)
    if not found:
        return None
    concerned = sum(any(character in found for character in treat(text)) for text in references)
    named = ", ".join(f"{character!r} ({code_points(character)}) x{n}" for character, n in found.most_common(_SHOWN))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    best = min(counts, key=lambda name: counts[name].total())
    fewer = counts[best].total()
    advice = f"; --normalizer {best} leaves {fewer} of {found.total()}" if fewer < found.total() else ""
    return (
        f"{concerned} of {len(references)} references hold characters that this model has no token for, so that even a "
        f"perfect model would have errors there: {named}{more}{advice}"
    )


def _unknown(references: Sequence[str], treat: Normaliser, tokenizer: Any) -> Counter[str]:
    """How often each character stands in the references that no text of the model holds, both after the treatment."""
    special = set(tokenizer.all_special_ids)
    written = {
        character
        for index in range(len(tokenizer))
        if index not in special
        for character in treat(str(tokenizer.decode([index])))
    }
    counted = Counter(character for text in references for character in treat(text) if not character.isspace())
    return Counter({character: count for character, count in counted.items() if character not in written})
