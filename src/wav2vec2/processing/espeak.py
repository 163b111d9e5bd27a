"""Phonemes of a text from espeak-ng, through the library that the `espeakng-loader` wheel bundles.

espeak has one voice per process, so the voice is set with every call, under a lock: no call can see the language of an
earlier one. (In stock Transformers a tokenizer keeps the first language that it was asked for, huggingface/transformers
issue 46614.) What comes out is what `phonemizer` gives with `language_switch="remove-flags"` and no stress marks, which
is how the published phoneme models were trained.
"""

import ctypes
import functools
import re
import threading
from difflib import get_close_matches
from typing import Any, NamedTuple

_LOCK = threading.Lock()
_SYNCHRONOUS, _UTF8 = 2, 1
#: IPA, and "_" between the phonemes of a word.
_IPA_SEPARATED = 0x02 | ord("_") << 8
_LANGUAGE_FLAGS = re.compile(r"\(.+?\)")
_STRESS = re.compile(r"[ˈˌ'-]+")
#: Marks that espeak would read as clause boundaries; "," and "." stay inside numbers.
_MARKS = re.compile(r'[;:!?¡¿—…"«»“”(){}\[\]]|(?<!\d)[,.]|[,.](?!\d)')


class _Voice(ctypes.Structure):
    """The structure `espeak_VOICE` of espeak's header speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class _Language(NamedTuple):
    """The first voice of a language: espeak's identifier, and what it is called, as "English (America)"."""

    identifier: bytes
    name: str


@functools.cache
def _library() -> Any:
    """The library, ready to speak to, loaded when first needed."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(
            "phonemes need espeak-ng, which comes with the extra: pip install 'wav2vec2[phonemes]' (espeakng-loader). "
            "Texts that are phonemes already need none: do_phonemize=False"
        ) from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
    data = str(espeakng_loader.get_data_path()).encode()
    if library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0) <= 0:
        raise OSError(f"espeak-ng could not read its data at {data.decode()}; install espeakng-loader again")
    return library


@functools.cache
def _languages() -> dict[str, _Language]:
    """The languages by their codes."""
    found: dict[str, _Language] = {}
    listed = _library().espeak_ListVoices(None)
    index = 0
    while listed[index]:
        voice = listed[index].contents
        language = ctypes.string_at(voice.languages + 1).decode()  # a priority byte, then the code
        if not (voice.identifier.startswith(b"mb/") or language == "variant"):
            found.setdefault(language, _Language(voice.identifier, voice.name.decode()))
        index += 1
    return found


def check_language(language: str) -> None:
    """A ValueError if espeak has no such language, with those that may be meant, by code or by name."""
    with _LOCK:
        known = _languages()
    if language in known:
        return
    asked = language.lower().replace("_", "-")
    near = [code for code in known if asked.startswith(code.partition("-")[0] + "-") or code.startswith(f"{asked}-")]
    near += [code for code, one in known.items() if asked and one.name.lower().startswith(asked)]
    near += get_close_matches(asked, known, 5, 0.8)
    shown = ", ".join(f"{code} ({known[code].name})" for code in dict.fromkeys(near))
    there = f"closest: {shown}" if near else f"it has {', '.join(sorted(known))}"
    raise ValueError(f"espeak has no language {language!r} (of {len(known)}); {there}")


def phonemize(text: str, language: str) -> list[list[str]]:
    """The phonemes of each word. Punctuation is no phoneme; a word of another language is said in that one."""
    check_language(language)
    text = _MARKS.sub(" ", text.replace("\0", " ")).strip()
    with _LOCK:
        if _library().espeak_SetVoiceByName(_languages()[language].identifier) != 0:
            raise OSError(f"espeak cannot speak {language!r}, though it lists it; install espeakng-loader again")
        clauses = _clauses(text)
    line = re.sub("_+", "_", " ".join(clauses).replace("\n", " "))
    line = _STRESS.sub("", _LANGUAGE_FLAGS.sub("", line))
    words = [[phoneme for phoneme in word.split("_") if phoneme] for word in line.split()]
    return [word for word in words if word]


def _clauses(text: str) -> list[str]:
    """espeak takes a clause at a time and moves the pointer behind it; null is the end."""
    pointer = ctypes.pointer(ctypes.c_char_p(text.encode("utf-8", "replace")))
    clauses = []
    while pointer.contents.value is not None:
        said = _library().espeak_TextToPhonemes(pointer, _UTF8, _IPA_SEPARATED)
        clauses.append(said.decode("utf-8", "replace") if said else "")
    return clauses
