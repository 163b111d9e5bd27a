"""The character tokenizer: against stock on random text and paths, and where stock is wrong."""

import copy
import json
import pickle
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.vocabulary import UnknownCharactersError, VocabularyError, build_vocabulary

LETTERS = "ETAOINHSRDLUMWCFGYPBVK'XJQZ"
#: The vocabulary of the best known English checkpoint.
ENGLISH = {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS])}

#: A phrase in each of 30 scripts.
SCRIPTS = {
    "Latin": "Việt Nam đẹp lắm, naïve façade",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται",
    "Cyrillic": "Всі люди народжуються вільними й",
    "Armenian": "Բոլոր մարդիկ ծնվում են ազատ",
    "Georgian": "ყველა ადამიანი იბადება",
    "Hebrew": "כָּל בְּנֵי הָאָדָם",
    "Arabic": "يُولَدُ جَمِيعُ النَّاسِ أَحْرَارًا",
    "Syriac": "ܟܠ ܒܪܢܫܐ ܒܪܝܠܗ",
    "Thaana": "ހުރިހާ އިންސާނުން",
    "Devanagari": "सभी मनुष्यों को गौरव क़लम",
    "Bengali": "সমস্ত মানুষ স্বাধীনভাবে",
    "Gurmukhi": "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਸ਼ੇਰ",
    "Gujarati": "પ્રતિષ્ઠા અને અધિકારો",
    "Oriya": "ସମସ୍ତ ମନୁଷ୍ୟ ଜନ୍ମକାଳରୁ",
    "Tamil": "மனிதப் பிறவியினர் சகலரும் கொ",
    "Telugu": "ప్రతిపత్తిస్వత్వముల విషయమున",
    "Kannada": "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ",
    "Malayalam": "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും",
    "Sinhala": "සියලු මනුෂ්‍යයෝ නිදහස්",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระ",
    "Lao": "ມະນຸດທຸກຄົນເກີດມາ",
    "Tibetan": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་",
    "Myanmar": "လူတိုင်းသည် တူညီ",
    "Khmer": "មនុស្សទាំងអស់កើតមក",
    "Ethiopic": "የሰው ልጅ ሁሉ ሲወለድ",
    "Cherokee": "ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ",
    "Canadian Aboriginal": "ᐃᓅᔪᓕᒫᑦ ᐊᓂᖅᑎᕆᔪᓕᒫᑦ",
    "Mongolian": "ᠬᠦᠮᠦᠨ ᠪᠦᠷ ᠲᠥᠷᠥᠵᠦ",
    "Hangul": "모든 인간은 태어날 때부터",
    "Han and Kana": "すべての人間は、生まれながらにしてガギグ自由",
}


def stock(vocabulary: dict[str, Any], folder: Path, **options: Any) -> Any:
    path = folder / "vocab.json"
    path.write_text(json.dumps(vocabulary))
    return transformers.Wav2Vec2CTCTokenizer(str(path), **options)


@pytest.fixture(scope="module")
def english() -> Wav2Vec2CTCTokenizer:
    return Wav2Vec2CTCTokenizer(ENGLISH)


@pytest.fixture(scope="module")
def stock_english(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return stock(ENGLISH, tmp_path_factory.mktemp("stock"))


def test_one_id_per_logit(english: Wav2Vec2CTCTokenizer) -> None:
    assert len(english) == english.vocab_size == len(english.tokens) == len(ENGLISH) == 32
    assert english.get_vocab() == ENGLISH
    assert (english.blank, english.blank_id, english.pad_token_id) == ("<pad>", 0, 0)
    assert (english.word_delimiter_token, english.word_delimiter_token_id) == ("|", 4)
    blog = Wav2Vec2CTCTokenizer({"[PAD]": 0, "[UNK]": 1, "|": 2, "a": 3}, pad_token="[PAD]", unk_token="[UNK]")
    assert len(blog) == 4
    assert blog.bos_token is blog.eos_token is None
    strict = Wav2Vec2CTCTokenizer({"<pad>": 0, "|": 1}, strict=True)
    with pytest.raises(VocabularyError, match="no logit stands for an added token"):
        strict.add_tokens(["b"])


def test_ids_equal_stock_on_random_text(english: Wav2Vec2CTCTokenizer, stock_english: Any) -> None:
    generator = random.Random(0)
    texts = ["".join(generator.choices(LETTERS + "  |", k=generator.randrange(60))) for _ in range(200)]
    ours, theirs = english(texts, padding=True), stock_english(texts, padding=True)
    assert ours["input_ids"] == theirs["input_ids"]
    assert ours["attention_mask"] == theirs["attention_mask"]
    tensors = english(texts[:3], padding=True, return_tensors="pt")
    assert torch.equal(tensors.input_ids, stock_english(texts[:3], padding=True, return_tensors="pt").input_ids)


@settings(deadline=None, max_examples=200)
@given(path=st.lists(st.sampled_from([0, 0, 1, 3, 4, 4, 5, 6, 7]), max_size=30))
def test_paths_decode_as_in_stock(path: list[int], english: Wav2Vec2CTCTokenizer, stock_english: Any) -> None:
    assert english.decode(path) == stock_english.decode(path)
    assert english.decode_labels(path) == stock_english.decode(path, group_tokens=False)
    asked = {"output_char_offsets": True, "output_word_offsets": True}
    ours, theirs = english.decode(path, **asked), stock_english.decode(path, **asked)
    assert ours.text == theirs.text
    assert ours.char_offsets == theirs.char_offsets
    assert ours.word_offsets == theirs.word_offsets


def test_batches_decode_as_in_stock(english: Wav2Vec2CTCTokenizer, stock_english: Any) -> None:
    paths = torch.randint(0, 32, (4, 25), generator=torch.Generator().manual_seed(0))
    assert english.batch_decode(paths) == stock_english.batch_decode(paths)
    assert english.batch_decode(paths.numpy()) == stock_english.batch_decode(paths)
    ours = english.batch_decode(paths, output_word_offsets=True)
    theirs = stock_english.batch_decode(paths, output_word_offsets=True)
    assert dict(ours) == dict(theirs)
    assert [english.decode_labels(row) for row in ([7, 7, -100], [5])] == ["AA", "E"]
    assert english.batch_decode([]) == []


def test_blanks_part_doubles_even_when_special_tokens_are_skipped(
    english: Wav2Vec2CTCTokenizer, stock_english: Any
) -> None:
    hello = [11, 5, 15, 0, 15, 8]  # H E L blank L O
    assert english.decode(hello, skip_special_tokens=True) == "HELLO"
    assert stock_english.decode(hello, skip_special_tokens=True) == "HELO"
    assert english.decode([1, 11, 4, 8, 2], skip_special_tokens=True) == "H O"
    assert english.convert_ids_to_tokens([1, 11, 4, 0], skip_special_tokens=True) == ["H", "|"]
    assert english.get_special_tokens_mask([1, 11, 4, 0], already_has_special_tokens=True) == [1, 0, 0, 1]


def test_ids_that_are_no_ids(english: Wav2Vec2CTCTokenizer) -> None:
    assert english.decode(7) == english.decode(np.int64(7)) == "A"
    assert english.decode([7, -100, 7]) == "AA"
    with pytest.raises(ValueError, match="id 32 is not one of the 32 tokens"):
        Wav2Vec2CTCTokenizer(ENGLISH, strict=True).decode([7, 32])
    with pytest.raises(ValueError, match="several sequences: use batch_decode"):
        english.decode([[7], [8]])
    with pytest.raises(ValueError, match=r"not 1\.5"):
        english.decode([1.5])


@pytest.mark.parametrize("case", ["lower", "upper"])
def test_do_lower_case_follows_the_vocabulary(case: str, tmp_path: Path) -> None:
    letters = LETTERS.lower() if case == "lower" else LETTERS
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<unk>", "|", *letters])}
    tokenizer = Wav2Vec2CTCTokenizer(vocabulary, do_lower_case=True)
    ids = tokenizer("Hello world").input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode_labels(ids) == "hello world"
    tokenizer.save_pretrained(tmp_path)
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert again("HELLO World").input_ids == ids
    in_stock = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert in_stock("hello world").input_ids == ids
    assert in_stock.decode(ids, group_tokens=False) == "hello world"
    words = tokenizer.decode(ids, output_word_offsets=True, group_tokens=False).word_offsets
    assert [word["word"] for word in words] == ["hello", "world"]


def test_unknown_characters_are_counted_and_said_once(stock_english: Any, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = Wav2Vec2CTCTokenizer(ENGLISH)
    texts = ["É7 A7", "É"]
    assert tokenizer(texts).input_ids == stock_english(texts).input_ids == [[3, 3, 4, 7, 3], [3]]
    assert tokenizer.unknown_counts == {"É": 2, "7": 2}
    (said,) = caplog.messages
    assert "'7' (U+0037) x2, 'É' (U+00C9) x1, in 'É7 A7'" in said and "written as '<unk>'" in said
    with pytest.raises(UnknownCharactersError, match="strict=False counts them") as error:
        Wav2Vec2CTCTokenizer(ENGLISH, strict=True)("É7 A7")
    assert error.value.characters == {"É": 1, "7": 2}


def test_without_unknown_token_or_delimiter_they_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    without = Wav2Vec2CTCTokenizer({"<pad>": 0, "|": 1, "a": 2})
    assert without("äa").input_ids == [2]
    assert without.unknown_counts == {"ä": 1}
    unspaced = Wav2Vec2CTCTokenizer({"<pad>": 0, "<unk>": 1, "a": 2})
    assert unspaced("a aä").input_ids == [2, 2, 1]
    assert unspaced.unknown_counts == {" ": 1, "ä": 1}
    assert "such are left out" in caplog.messages[0]
    assert "the vocabulary has no word delimiter" in caplog.messages[1]


def test_ids_beyond_the_vocabulary_read_as_unknown(stock_english: Any, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = Wav2Vec2CTCTokenizer(ENGLISH)
    path = [11, 5, 15, 0, 15, 8, 98, 99, 98]
    assert tokenizer.decode(path) == stock_english.decode(path) == "HELLO<unk>"
    assert tokenizer.batch_decode([path, path], skip_special_tokens=True) == ["HELLO", "HELLO"]
    assert tokenizer.convert_ids_to_tokens([7, 98]) == stock_english.convert_ids_to_tokens([7, 98])
    assert tokenizer.unknown_id_counts == {98: 7, 99: 3}
    assert [message[:38] for message in caplog.messages] == ["id 98 is not one of the 32 tokens of t"]
    assert Wav2Vec2CTCTokenizer({"<pad>": 0, "|": 1, "a": 2}).decode([2, 7, 2]) == "aa"


def test_added_tokens_as_in_stock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = Wav2Vec2CTCTokenizer(ENGLISH), stock(ENGLISH, tmp_path)
    for tokenizer in (ours, theirs):
        assert tokenizer.add_tokens(["xxx", "A", "?"]) == 2
        assert tokenizer.add_tokens("xxx") == 0
        assert tokenizer.add_special_tokens({"cls_token": "$$$"}) == 1
        assert (tokenizer.vocab_size, len(tokenizer)) == (32, 35)
    assert ours("C xxx ?A").input_ids == theirs("C xxx ?A").input_ids == [19, 4, 32, 4, 33, 7]
    path = [11, 8, 32, 32, 4, 33, 0, 33, 34]
    assert ours.decode(path) == theirs.decode(path) == "HOxxx ??$$$"
    assert ours.tokens[-3:] == ["xxx", "?", "$$$"]
    ours.save_pretrained(tmp_path / "ours")
    for kind in (Wav2Vec2CTCTokenizer, transformers.Wav2Vec2CTCTokenizer):
        again = kind.from_pretrained(tmp_path / "ours")
        assert again.get_vocab() == theirs.get_vocab()
        assert again.cls_token == "$$$"
        assert again.decode(path) == "HOxxx ??$$$"
    assert json.loads((tmp_path / "ours" / "vocab.json").read_text()) == ENGLISH
    assert "need a model of 34 logits" in caplog.messages[0] and len(caplog.messages) == 1


def test_options_that_ask_for_nothing_do_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Wav2Vec2CTCTokenizer(ENGLISH).save_pretrained(tmp_path)
    options: dict[str, Any] = {"max_length": 9, "padding": True, "truncation": True, "do_lowercase": True}
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, sep_token="[SEP]", model_max_length=42, **options)
    assert (tokenizer.sep_token, tokenizer.sep_token_id, tokenizer.model_max_length) == ("[SEP]", 32, 42)
    assert tokenizer("AB", add_special_tokens=True, return_token_type_ids=True).input_ids == [7, 24]
    assert tokenizer("ABC", truncation=True, max_length=2).input_ids == [7, 24]
    assert tokenizer.encode("A", add_special_tokens=False) == [7]
    assert "Wav2Vec2CTCTokenizer has no option do_lowercase" in caplog.text
    named = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, bos_token="<BOS>", word_delimiter_token="_")
    assert named.get_vocab() == ENGLISH | {"<BOS>": 32, "_": 33}
    assert named("A B").input_ids == [7, 33, 24]
    named.word_delimiter_token = "|"
    assert named("A B").input_ids == [7, 4, 24]
    with pytest.raises(AttributeError, match="conflicts with the method"):
        Wav2Vec2CTCTokenizer(ENGLISH, add_special_tokens=True)


@pytest.mark.parametrize("templates", ["{{'a'}}", {"default": "{{'a'}}", "other": "{{'b'}}"}])
@pytest.mark.parametrize("files", [True, False])
def test_chat_templates_survive(templates: Any, files: bool, tmp_path: Path) -> None:
    tokenizer = Wav2Vec2CTCTokenizer(ENGLISH, chat_template=templates)
    tokenizer.save_pretrained(tmp_path, save_jinja_files=files)
    assert (tmp_path / "chat_template.jinja").exists() == files
    for kind in (Wav2Vec2CTCTokenizer, transformers.Wav2Vec2CTCTokenizer):
        assert kind.from_pretrained(tmp_path).chat_template == templates


def test_a_vocabulary_without_blank_is_completed_as_in_stock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vocabulary = {"a": 0, "|": 1, "b": 2}
    theirs = stock(vocabulary, tmp_path)
    for ours in (Wav2Vec2CTCTokenizer(vocabulary), Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)):
        assert ours.get_vocab() == theirs.get_vocab()
        assert (ours.blank_id, ours.unk_token_id) == (theirs.pad_token_id, theirs.unk_token_id) == (6, 5)
        assert ours.decode([0, 6, 0, 2]) == theirs.decode([0, 6, 0, 2]) == "aab"
        assert ours("a ba").input_ids == theirs("a ba").input_ids
        ours.save_pretrained(tmp_path / "again")
        assert Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "again").get_vocab() == theirs.get_vocab()
    assert "'<pad>', the CTC blank, is not in vocabulary. It gets an id behind the others" in caplog.messages[0]


def test_gaps_in_ids_load(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vocabulary = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 5, "b": 7}
    theirs = stock(vocabulary, tmp_path, bos_token=None, eos_token=None)
    for ours in (Wav2Vec2CTCTokenizer(vocabulary), Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)):
        assert ours.encoder == vocabulary
        assert (len(ours), ours.tokens[3:6]) == (8, ["<3>", "<4>", "a"])
        assert ours("a b").input_ids == theirs("a b").input_ids == [5, 2, 7]
        assert ours.decode([5, 4, 7]) == theirs.decode([5, 4, 7]) == "a<unk>b"
        assert ours.add_tokens(["c"]) == 1 and ours("c").input_ids == [8]
    said = [message for message in caplog.messages if "no token has the id 3, 4, 6: they decode to the" in message]
    assert len(said) == 2


def test_as_a_transcript_there_are_words_alone(english: Wav2Vec2CTCTokenizer) -> None:
    tokenizer = copy.deepcopy(english)
    path = [1, 4, 11, 4, 3, 4, 8, 0, 8, 4, 0, 4, 98, 7, 4, 2]
    assert tokenizer.decode(path) == "<s> H <unk> OO  <unk>A </s>"
    tokenizer.as_transcript = True
    found = tokenizer.decode(path, output_word_offsets=True)
    assert found.text == "H OO A"
    assert [word["word"] for word in found.word_offsets] == ["H", "OO", "A"]


def test_longer_tokens_keep_the_spaces_beside_them() -> None:
    vocabulary = {"<pad>": 0, "<unk>": 1, "|": 2, "c": 3, "h": 4, "ch": 5, "<noise>": 6, "a": 7}
    tokenizer = Wav2Vec2CTCTokenizer(vocabulary)
    text = "a cha <noise> hc <unk>a"
    ids = tokenizer(text).input_ids
    assert ids == [7, 2, 5, 7, 2, 6, 2, 4, 3, 2, 1, 7]
    assert tokenizer.decode_labels(ids) == text
    assert tokenizer(["a", "ch"], is_split_into_words=True).input_ids == [7, 2, 5]
    assert tokenizer([["a", "ch"], ["a"]], is_split_into_words=True).input_ids == [[7, 2, 5], [7]]


def test_special_tokens_survive_normalisation() -> None:
    vocabulary = build_vocabulary(["ab"])
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary)
    assert tokenizer("A, <unk>  b!").input_ids == [3, 2, 1, 2, 4]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_round_trip_in_30_scripts(script: str, form: str, tmp_path: Path) -> None:
    assert len(SCRIPTS) == 30
    text = unicodedata.normalize("NFD" if form == "NFC" else "NFC", SCRIPTS[script])
    vocabulary = build_vocabulary([text], unicode_form=form, case="keep", punctuation="keep", apostrophes="keep")
    tokenizer = Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary)
    tokenizer.save_pretrained(tmp_path)
    expected = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    ids = tokenizer(text).input_ids
    assert tokenizer.decode_labels(ids) == expected
    path = [index for label in ids for index in (label, label, tokenizer.blank_id)]
    assert tokenizer.decode(path) == expected
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert again(text).input_ids == ids
    in_stock = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert len(in_stock) == len(tokenizer)
    assert in_stock(expected).input_ids == ids
    assert in_stock.decode(path) == expected


NESTED = {
    "eng": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5, "b": 6},
    "fra": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "é": 5, "a": 6, "oui": 7},
    "bad": {"<pad>": 0, "a": 1, "b": 1},
    "short": {"a": 0},
}


def test_languages_are_switched_wholly(tmp_path: Path) -> None:
    tokenizer = Wav2Vec2CTCTokenizer(NESTED, target_lang="eng")
    assert (len(tokenizer), tokenizer("ab").input_ids) == (7, [5, 6])
    tokenizer.set_target_lang("fra")
    assert (len(tokenizer), tokenizer("aé oui").input_ids) == (8, [6, 5, 4, 7])
    for language, message in (("bad", "share the id 1"), ("deu", "not among them")):
        with pytest.raises(VocabularyError, match=message):
            tokenizer.set_target_lang(language)
        assert tokenizer.target_lang == "fra"
        assert tokenizer("a").input_ids == [6]
    with pytest.raises(VocabularyError, match="no <s>"):
        Wav2Vec2CTCTokenizer(NESTED, target_lang="eng", strict=True).set_target_lang("short")
    tokenizer.add_tokens(["xyz"])
    tokenizer.set_target_lang("short")
    assert tokenizer.get_vocab() == {"a": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<pad>": 4, "xyz": 5}
    tokenizer.set_target_lang("fra")
    assert tokenizer.get_vocab() == NESTED["fra"] | {"xyz": 8}
    tokenizer = Wav2Vec2CTCTokenizer(NESTED, target_lang="fra")
    tokenizer.save_pretrained(tmp_path)
    again = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert (again.target_lang, again("é").input_ids) == ("fra", [5])
    assert Wav2Vec2CTCTokenizer.from_pretrained(tmp_path, target_lang="eng")("b").input_ids == [6]
    in_stock = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert (len(in_stock), in_stock("éa").input_ids) == (8, [5, 6])
    with pytest.raises(VocabularyError, match="not one per language"):
        Wav2Vec2CTCTokenizer(ENGLISH).set_target_lang("eng")


def test_copies_and_pickles(english: Wav2Vec2CTCTokenizer) -> None:
    for twin in (copy.deepcopy(english), pickle.loads(pickle.dumps(english))):
        assert twin("HELLO THERE").input_ids == english("HELLO THERE").input_ids
        assert twin.decode([7, 7, 0, 7]) == "AA"


def test_tokens_to_string_as_in_stock(english: Wav2Vec2CTCTokenizer, stock_english: Any) -> None:
    tokens = ["H", "H", "<pad>", "I", "|", "A"]
    asked = {"output_char_offsets": True, "output_word_offsets": True}
    assert english.convert_tokens_to_string(tokens, **asked) == stock_english.convert_tokens_to_string(tokens, **asked)
    assert english.convert_tokens_to_string(tokens)["text"] == "HI A"
