"""Every layout that stock wrote loads here, what is saved here loads in stock, and no file breaks the reader."""

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.tokenizer_files import TokenizerFileError
from wav2vec2.processing.vocabulary import VocabularyError, build_vocabulary

BLOG = {"[PAD]": 0, "[UNK]": 1, "|": 2, "a": 3, "b": 4}
BLOG_SETTINGS = {
    "unk_token": "[UNK]",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "[PAD]",
    "do_lower_case": False,
    "word_delimiter_token": "|",
    "tokenizer_class": "Wav2Vec2CTCTokenizer",
}
WHOLE = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6}


def flagged(content: str, **flags: bool) -> dict[str, Any]:
    plain = {"lstrip": False, "rstrip": False, "normalized": True, "single_word": False}
    return {"content": content, **plain, **flags}


def write(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def ctc_config(size: int, blank: int = 0) -> dict[str, Any]:
    return {"architectures": ["Wav2Vec2ForCTC"], "vocab_size": size, "pad_token_id": blank, "model_type": "wav2vec2"}


#: Layouts by release and habit, each with the number of tokens that have a logit.
LAYOUTS: dict[str, tuple[dict[str, Any], int]] = {
    "vocabulary alone": ({"vocab": WHOLE}, 7),
    "4.3, settings as strings": (
        {
            "vocab": WHOLE,
            "tokenizer_config": {
                "unk_token": "<unk>",
                "bos_token": "<s>",
                "eos_token": "</s>",
                "pad_token": "<pad>",
                "do_lower_case": False,
                "return_attention_mask": False,
                "do_normalize": True,
            },
            "special_tokens_map": {
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "pad_token": "<pad>",
            },
        },
        7,
    ),
    "4.11, extras in added_tokens.json": (
        {
            "vocab": BLOG,
            "tokenizer_config": BLOG_SETTINGS | {"special_tokens_map_file": None, "tokenizer_file": None},
            "special_tokens_map": {
                **{name: BLOG_SETTINGS[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token")},
                "additional_special_tokens": [
                    flagged(token) for token in ("<s>", "</s>") * 2
                ],
            },
            "added_tokens": {"<s>": 5, "</s>": 6},
        },
        5,
    ),
    "4.11, special tokens in the map alone": (
        {
            "vocab": BLOG,
            "special_tokens_map": {
                "bos_token": flagged("<s>"),
                "eos_token": flagged("</s>"),
                "unk_token": flagged("[UNK]"),
                "pad_token": flagged("[PAD]"),
            },
        },
        5,
    ),
    "4.35, added_tokens_decoder": (
        {
            "vocab": BLOG,
            "tokenizer_config": BLOG_SETTINGS
            | {
                "added_tokens_decoder": {
                    "0": flagged("[PAD]", rstrip=True, special=False),
                    "1": flagged("[UNK]", rstrip=True, special=False),
                    "5": flagged("<s>", special=True),
                    "6": flagged("</s>", special=True),
                },
                "clean_up_tokenization_spaces": True,
                "model_max_length": 1000000000000000019884624838656,
                "replace_word_delimiter_char": " ",
                "target_lang": None,
                "processor_class": "Wav2Vec2Processor",
            },
            "added_tokens": {"<s>": 5, "</s>": 6},
            "special_tokens_map": {"bos_token": "<s>"},
        },
        5,
    ),
    "5, logits for the extras": (
        {
            "vocab": BLOG,
            "tokenizer_config": BLOG_SETTINGS
            | {"added_tokens_decoder": {"5": flagged("<s>", special=True), "6": flagged("</s>", special=True)}},
            "config": ctc_config(7),
        },
        7,
    ),
    "logits for extras that no file names": (
        {"vocab": BLOG, "tokenizer_config": BLOG_SETTINGS, "config": ctc_config(7)},
        7,
    ),
    "5, extras without logits": (
        {
            "vocab": BLOG,
            "tokenizer_config": BLOG_SETTINGS | {"model_specific_special_tokens": {"word_delimiter_token": "|"}},
            "config": ctc_config(5),
        },
        5,
    ),
    "an added token that a logit stands for": (
        {
            "vocab": BLOG,
            "tokenizer_config": BLOG_SETTINGS,
            "added_tokens": {"<s>": 5, "</s>": 6, "[noise]": 7},
        },
        8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_stock_load_with_its_ids(name: str, tmp_path: Path) -> None:
    files, size = LAYOUTS[name]
    folder = write(tmp_path / "stock", **files)
    ours = Wav2Vec2CTCTokenizer.from_pretrained(folder)
    theirs = transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder)
    assert len(ours) == size
    assert ours.get_vocab() == {token: index for token, index in theirs.get_vocab().items() if index < size}
    same_text_and_ids(ours, theirs)
    saved = tmp_path / "saved"
    ours.save_pretrained(saved)
    again = transformers.Wav2Vec2CTCTokenizer.from_pretrained(saved)
    assert len(again) == size
    assert again.get_vocab() == ours.get_vocab()
    same_text_and_ids(ours, again)
    same_text_and_ids(ours, Wav2Vec2CTCTokenizer.from_pretrained(saved))


def same_text_and_ids(ours: Any, theirs: Any) -> None:
    letters = "AB" if "A" in ours.get_vocab() else "ab"
    generator = random.Random(0)
    for _ in range(20):
        text = "".join(generator.choices(f"{letters} ", k=8))
        assert ours(text).input_ids == theirs(text).input_ids
        path = generator.choices(range(len(ours)), k=12)
        assert ours.decode(path) == theirs.decode(path)
    for name in ("pad_token", "pad_token_id", "unk_token", "unk_token_id"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("delimiter", ["|", "_", " ", None])
def test_any_delimiter_survives_the_trip_to_stock(delimiter: str | None, tmp_path: Path) -> None:
    tokens = ["<pad>", "<unk>", *([delimiter] if delimiter else []), "a", "b"]
    ours = Wav2Vec2CTCTokenizer({t: i for i, t in enumerate(tokens)}, word_delimiter_token=delimiter)
    ours.save_pretrained(tmp_path)
    theirs = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert again.word_delimiter_token == delimiter
    assert len(theirs) == len(again) == len(tokens)
    text = "ab a" if delimiter else "aba"
    assert ours(text).input_ids == theirs(text).input_ids == again(text).input_ids
    assert ours.decode(ours(text).input_ids) == theirs.decode(ours(text).input_ids) == text


def test_older_files_in_the_folder_do_not_come_back(tmp_path: Path) -> None:
    write(tmp_path, **LAYOUTS["4.11, extras in added_tokens.json"][0])
    Wav2Vec2CTCTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "added_tokens.json").exists()
    assert len(transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)) == 5
    assert len(Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)) == 5


def test_stock_saves_and_loads_what_is_loaded_here(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(["hello world"])
    ours = Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary)
    ours.save_pretrained(tmp_path / "ours")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "theirs")
    assert again.get_vocab() == ours.get_vocab()
    assert again.normalization == ours.normalization
    assert again("HELLO!").input_ids == ours("hello").input_ids


def test_what_auto_classes_add_to_a_call_is_no_option(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, **LAYOUTS["5, extras without logits"][0])
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, _from_auto=True, trust_remote_code=None, use_fast=False)
    assert len(tokenizer) == 5
    assert not caplog.messages
    Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, do_lowercase=True)
    assert caplog.messages == ["Wav2Vec2CTCTokenizer has no option do_lowercase"]


def test_a_token_that_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"<pad>": 0, "|": 1, "a": 2, "b": 3, "a": 4}')
    for load in (Wav2Vec2CTCTokenizer.from_pretrained, lambda folder: Wav2Vec2CTCTokenizer(folder / "vocab.json")):
        with pytest.raises(TokenizerFileError, match="'a' is there twice, as 2 and 4"):
            load(tmp_path)


def test_push_uploads_what_save_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Wav2Vec2CTCTokenizer(BLOG, pad_token="[PAD]", unk_token="[UNK]")
    pushed: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(tokenizer, "push_to_hub", lambda name, **options: pushed.append((name, options)))
    tokenizer.save_pretrained(tmp_path / "mine", push_to_hub=True, private=True)
    tokenizer.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="me/mine")
    assert pushed == [("mine", {"private": True}), ("me/mine", {})]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["tokenizer_config.json", "vocab.json"]


CONTRADICTIONS = [
    (ctc_config(4), "vocab_size=4, but vocab.json has 5 tokens: no logit for b"),
    (ctc_config(9), "no token has the id 7, 8"),
    (ctc_config(5, blank=3), r"pad_token_id=3, the CTC blank of the model, but that is 'a'; .*'\[PAD\]' has the id 0"),
    (ctc_config(5, blank=9), "but that is no token"),
]


@pytest.mark.parametrize(("config", "message"), CONTRADICTIONS)
def test_a_config_that_contradicts_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, vocab=BLOG, tokenizer_config=BLOG_SETTINGS, config=config)
    with pytest.raises(VocabularyError, match=message):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, strict=True)
    if "no token has the id" in message:  # logits that no label stands for
        assert len(Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)) == 7
    else:
        with pytest.raises(VocabularyError, match=message):
            Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    write(tmp_path, config=config | {"architectures": ["Wav2Vec2ForPreTraining"]})
    assert len(Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)) == 5


DAMAGED: list[tuple[dict[str, Any], str]] = [
    ({"added_tokens": {"a": 9}}, "'a' has the id 3 in vocab.json and 9 among the added tokens"),
    ({"added_tokens": {"c": 3}}, "'a' and 'c' share the id 3"),
    ({"added_tokens": {"[noise]": 7}}, "no token has the id 5"),
    ({"tokenizer_config": []}, "tokenizer_config.json must be an object, it is list"),
    ({"tokenizer_config": {"pad_token": 5}}, "pad_token: 5 is not a token"),
    ({"tokenizer_config": {"do_lower_case": "yes"}}, "do_lower_case='yes' must be of type bool"),
    ({"tokenizer_config": {"normalization": {"case": "Lower"}}}, "case='Lower': must be one of"),
    ({"tokenizer_config": {"added_tokens_decoder": {"x": "c"}}}, "'x': 'c' is not an id and a token"),
    ({"tokenizer_config": {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"}}, "not a Wav2Vec2CTCTokenizer"),
    ({"tokenizer_config": {"chat_template": [{"name": "a"}]}}, "chat_template must be a text or a list of named ones"),
    ({"tokenizer_config": {"model_max_length": "long"}}, "model_max_length='long' must be of type int or float"),
    ({"tokenizer_config": {"pad_token": "<blank>"}}, "pad_token='<blank>', the CTC blank, is not in"),
]


@pytest.mark.parametrize(("files", "message"), DAMAGED)
def test_damage_is_named(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = BLOG_SETTINGS | files["tokenizer_config"] if isinstance(files.get("tokenizer_config"), dict) else None
    write(tmp_path, vocab=BLOG, **({"tokenizer_config": BLOG_SETTINGS} | files))
    if settings is not None:
        write(tmp_path, tokenizer_config=settings)
    with pytest.raises((VocabularyError, TokenizerFileError, ValueError), match=message):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, strict=True)


def test_what_is_not_used_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, vocab={"<pad>": 0, "你": 1})
    with caplog.at_level(logging.WARNING, "wav2vec2"):
        tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 2
    assert "unk_token='<unk>' has no logit" in caplog.text
    assert "word_delimiter_token='|' has no logit" in caplog.text


def test_a_folder_without_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TokenizerFileError, match=r"has no vocab.json.*build_vocabulary\(texts\)"):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    with pytest.raises(TokenizerFileError, match="no such folder"):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "absent")
    write(tmp_path, vocab=BLOG)
    with pytest.raises(TokenizerFileError, match="is a file"):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "vocab.json")
    with pytest.raises(TokenizerFileError, match="leads out of"):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, subfolder="..")


def test_an_interrupted_save_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, vocab=BLOG, tokenizer_config=BLOG_SETTINGS)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        Wav2Vec2CTCTokenizer({"<pad>": 0, "|": 1}).save_pretrained(tmp_path)
    assert Wav2Vec2CTCTokenizer.from_pretrained(tmp_path).get_vocab() == BLOG


NAMES = ["vocab", "tokenizer_config", "special_tokens_map", "added_tokens", "config"]
KEYS = ["pad_token", "unk_token", "bos_token", "word_delimiter_token", "added_tokens_decoder", "target_lang", "content"]
KEYS += [
    "normalization",
    "vocab_size",
    "pad_token_id",
    "architectures",
    "<pad>",
    "|",
    "a",
    "0",
    "do_lower_case",
    "strict",
    "chat_template",
    "extra_special_tokens",
    "model_max_length",
    "padding_side",
    "cls_token",
]
KEYS += ["phone_delimiter_token", "phonemizer_backend", "model_specific_special_tokens", "eng"]
scalars = (
    st.none() | st.booleans() | st.integers(-2, 5) | st.integers() | st.floats() | st.sampled_from(KEYS) | st.text()
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=6),
    max_leaves=12,
)
valid = (
    st.just(BLOG) | st.just(WHOLE) | st.just({"eng": WHOLE}) | st.dictionaries(st.text(), st.integers(0, 5), max_size=5)
)
contents = st.binary(max_size=40) | (documents | valid).map(lambda value: json.dumps(value).encode())


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(st.sampled_from(NAMES), contents),
    st.sampled_from([Wav2Vec2CTCTokenizer, Wav2Vec2PhonemeCTCTokenizer]),
    st.booleans(),
)
def test_any_files_give_a_tokenizer_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], kind: Any, sound: bool
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    if sound:
        files = {"vocab": json.dumps(WHOLE).encode()} | files
    for name, content in files.items():
        (folder / f"{name}.json").write_bytes(content)
    try:
        tokenizer = kind.from_pretrained(folder)
    except (ValueError, TokenizerFileError) as error:
        assert str(error)
        return
    ids = sorted(tokenizer.get_vocab().values())
    assert len(set(ids)) == len(ids) and ids[-1] == len(tokenizer) - 1 and tokenizer.blank_id in ids
    tokenizer.save_pretrained(folder)
    assert kind.from_pretrained(folder).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": NaN}', b"\xff\xfe", b""])
def test_json_that_breaks_parsers(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes(content)
    with pytest.raises((VocabularyError, TokenizerFileError)):
        Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
