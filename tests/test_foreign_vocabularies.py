"""The tokens of a head, from the files in which other frameworks keep them."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2 import CheckpointError
from wav2vec2.sharing.converters.sentencepiece_files import read_pieces, write_pieces
from wav2vec2.sharing.converters.vocabularies import (
    Vocabulary,
    arranged_for_fairseq,
    arranged_for_torchaudio,
    foreign_vocabulary,
    read_vocabulary,
)

EXPECTED = ("<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "\u00e9")


def written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_every_kind_of_file_gives_the_same_tokens(tmp_path: Path) -> None:
    """A dictionary of fairseq names four tokens less; sentencepiece has another word for a space."""
    theirs = ["<s>", "<pad>", "</s>", "<unk>", "|", "E", "T", "\u00e9"]
    write_pieces(tmp_path / "tokenizer.model", [*theirs[:4], "\u2581", *theirs[5:]])
    files = [
        written(tmp_path / "dict.ltr.txt", "| 94802\nE 51860\nT 38431 #fairseq:overwrite\n\u00e9 1\n"),
        tmp_path / "tokenizer.model",
        written(tmp_path / "labels.txt", "\n".join(["-", "<s>", *theirs[2:]])),
        written(tmp_path / "vocab.json", json.dumps({token: row for row, token in enumerate(EXPECTED)})),
    ]
    for path in files:
        assert read_vocabulary(path) == Vocabulary(EXPECTED, "<pad>", "<unk>", "|"), path.name


def test_the_blank_is_the_first_whatever_it_is_called() -> None:
    assert foreign_vocabulary("x", ["-", "|", "A"]).tokens == ("<pad>", "|", "A")
    assert foreign_vocabulary("x", ["-", "<pad>", "A"]).tokens == ("<pad>", "<s>", "A")
    both = foreign_vocabulary("x", ["<s>", "<pad>", "|", "\u2581"])
    assert both.tokens == ("<pad>", "<s>", "|", "\u2581") and both.delimiter == "\u2581"
    assert foreign_vocabulary("x", ["<s>", "A"]).delimiter is None
    with pytest.raises(CheckpointError, match="has tokens twice: 'A'"):
        foreign_vocabulary("x", ["<s>", "A", "A"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"{", "is not sound JSON"),
        ("a.json", b'{"a": 0, "b": 2}', "one token for each of the ids"),
        ("a.json", b'{"a": true}', "one token for each of the ids"),
        ("a.txt", b"", "holds no tokens"),
        ("a.txt", b"\xff\xfe", "is no text in UTF-8"),
        ("a.model", b"\x0a\x05\x0a", "is no model of sentencepiece, or corrupt"),
        ("a.model", b"", "it has no pieces"),
        ("a.model", b"\x0a\x02\x15\0", "is no model of sentencepiece, or corrupt"),
        ("a.model", b"\xff" * 30, "is no model of sentencepiece, or corrupt"),
    ],
)
def test_files_that_are_none_are_refused(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        read_vocabulary(tmp_path / name)


def test_rows_go_into_their_order() -> None:
    mine = Vocabulary(("a", "[PAD]", "|", "<unk>", "b"), "[PAD]", "<unk>", "|")
    assert arranged_for_fairseq(mine).tokens == ["<s>", "<pad>", "</s>", "<unk>", "a", "|", "b"]
    assert arranged_for_fairseq(mine).rows == (1, None, None, 3, 0, 2, 4)
    assert arranged_for_fairseq(mine, "\u2581").tokens[4:] == ["a", "\u2581", "b"]
    assert arranged_for_torchaudio(mine) == (["-", "a", "|", "<unk>", "b"], (1, 0, 2, 3, 4))
    usual = Vocabulary(EXPECTED, "<pad>", "<unk>", "|")
    assert arranged_for_fairseq(usual).rows == arranged_for_torchaudio(usual).rows == tuple(range(8))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), min_size=1, unique=True))
@settings(max_examples=50, deadline=None)
def test_pieces_come_back(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.model"
    write_pieces(path, pieces)
    assert read_pieces(path, path.read_bytes()) == pieces


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_pieces_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        assert read_pieces(Path("any.model"), data)
    except CheckpointError as error:
        assert "any.model" in str(error)


@pytest.fixture
def sentencepiece() -> Any:
    """The library, if it is here, or where `WAV2VEC2_PEERS` says."""
    folder = os.environ.get("WAV2VEC2_PEERS", "")
    sys.path.append(folder)
    try:
        return pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    finally:
        sys.path.remove(folder)


def test_sentencepiece_reads_what_is_written(sentencepiece: Any, tmp_path: Path) -> None:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *"abc\u00e9"]
    write_pieces(tmp_path / "ours.model", pieces)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "ours.model"))
    assert [model.id_to_piece(row) for row in range(model.get_piece_size())] == pieces
    assert (model.bos_id(), model.pad_id(), model.eos_id(), model.unk_id()) == (0, 1, 2, 3)
    assert model.encode("a \u00e9b") == [5, 4, 8, 6] and model.decode([5, 4, 8, 6]) == "a \u00e9b"


def test_what_sentencepiece_trains_is_read(sentencepiece: Any, tmp_path: Path) -> None:
    """As omnilingual-asr's characters were made: by its trainer, of characters."""
    (tmp_path / "text.txt").write_text("abc cab\nbca \u4e00\u4e8c\n" * 20, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"),
        model_prefix=str(tmp_path / "theirs"),
        model_type="char",
        vocab_size=10,
        character_coverage=1.0,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "theirs.model"))
    pieces = [model.id_to_piece(row) for row in range(model.get_piece_size())]
    assert read_pieces(tmp_path / "theirs.model", (tmp_path / "theirs.model").read_bytes()) == pieces
    vocabulary = read_vocabulary(tmp_path / "theirs.model")
    assert vocabulary.tokens[:4] == ("<pad>", "<s>", "</s>", "<unk>") and vocabulary.delimiter == "|"
    assert sorted(vocabulary.tokens[4:]) == sorted(["|", *"abc", "\u4e00", "\u4e8c"])
