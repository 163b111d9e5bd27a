"""Hotwords and lexicons as a command line gives them: a few words, or a text file with one entry a line."""

from collections.abc import Iterable
from pathlib import Path

from wav2vec2.decoding.lexicon import HOTWORD_WEIGHT


def read_hotwords(values: Iterable[str]) -> dict[str, float]:
    """Phrases with their weights: between commas, "mat, North Sea=5"; or a file, a phrase a line, a TAB, its weight."""
    found: dict[str, float] = {}
    for value in values:
        if Path(value).suffix and Path(value).is_file():
            entries = [(line.partition("\t"), f"{value}, line {number}") for number, line in _lines(Path(value))]
        elif Path(value).suffix in (".txt", ".tsv"):
            raise FileNotFoundError(f"--hotwords {value}: no such file")
        else:
            entries = [(entry.partition("="), repr(entry)) for entry in value.split(",")]
        for (phrase, _, weight), place in entries:
            if not phrase.split():
                raise ValueError(f"--hotwords: {place}: no phrase in it")
            found[" ".join(phrase.split())] = _weight(weight, place)
    return found


def read_lexicon(path: Path) -> list[str] | dict[str, list[str]]:
    """Words, one a line; or words with their spelling in tokens ("cat", a TAB, "k æ t"), as often as they have one."""
    words: list[str] = []
    spellings: dict[str, list[str]] = {}
    for number, line in _lines(path):
        word, tab, spelling = (part.strip() for part in line.partition("\t"))
        if len(word.split()) != 1 or (tab and not spelling):
            raise ValueError(f"--lexicon: {path}, line {number}: {line!r} is no word, nor a word, a TAB and its tokens")
        words.append(word)
        if spelling:
            spellings.setdefault(word, []).append(spelling)
    if spellings and len(set(words)) != len(spellings):
        lacking = next(word for word in words if word not in spellings)
        raise ValueError(f"--lexicon: {path}: some words have a spelling and others, such as {lacking!r}, have none")
    return spellings or words


def _weight(text: str, place: str) -> float:
    try:
        return float(text) if text.strip() else HOTWORD_WEIGHT
    except ValueError as error:
        raise ValueError(f"--hotwords: {place}: {text.strip()!r} is no weight") from error


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
