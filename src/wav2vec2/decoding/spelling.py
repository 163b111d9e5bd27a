"""Between words and token ids: which tokens are letters, how a word is spelled, what a row of tokens reads."""

import re
from collections.abc import Iterable, Mapping, Sequence

Spelling = tuple[int, ...]

#: Entries that no transcript holds, where the caller does not say: <s>, </s>, <pad>, [UNK], [unk], pyctcdecode's sign
#: for unknown, and the like.
_SPECIAL = re.compile(r"<.+>|\[[A-Za-z][A-Za-z_]+\]|⁇")


class Speller:
    """The tokens of a vocabulary by id. Special tokens have no part in a search; the blank and they are no letters.

    `special_tokens` are those of the tokenizer; without them they are told by how they are written.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        blank: int,
        word_delimiter: str | None,
        special_tokens: Iterable[str] | None = None,
    ) -> None:
        self.vocabulary = list(vocabulary)
        repeated = sorted({token for token in self.vocabulary if self.vocabulary.count(token) > 1})
        if not self.vocabulary or repeated:
            raise ValueError(
                f"vocabulary: must be a list of different tokens by id, but {repeated or 'it'} is repeated or empty"
            )
        if not 0 <= blank < len(self.vocabulary):
            raise ValueError(f"blank={blank}: must be the id of a token, 0 to {len(self.vocabulary) - 1}")
        if word_delimiter is not None and word_delimiter not in self.vocabulary:
            raise ValueError(
                f"word_delimiter={word_delimiter!r} is not in the vocabulary {self.vocabulary[:40]}; "
                "pass None if every token is a word of its own"
            )
        self.blank = blank
        self.delimiter = None if word_delimiter is None else self.vocabulary.index(word_delimiter)
        if self.delimiter == blank:
            raise ValueError(f"blank={blank}: is the word delimiter {word_delimiter!r}; they must be two tokens")
        self.word_delimiter = word_delimiter
        named = None if special_tokens is None else set(special_tokens)
        special = [bool(_SPECIAL.fullmatch(one)) if named is None else one in named for one in self.vocabulary]
        self.special = {i for i, is_special in enumerate(special) if is_special} - {blank, self.delimiter}
        silent = self.special | {blank, self.delimiter}
        self.letters = {token: i for i, token in enumerate(self.vocabulary) if token and i not in silent}
        self._longest = max(map(len, self.letters), default=0)

    @property
    def special_tokens(self) -> list[str]:
        """The tokens that no transcript holds, the blank aside, in the order of their ids."""
        return [self.vocabulary[i] for i in sorted(self.special)]

    def spell(self, word: str) -> Spelling | None:
        """The tokens of a word, longest first where several fit, or None if it has a character without a token."""
        if self._longest == 1:
            spelling = [self.letters.get(character, -1) for character in word]
            return None if -1 in spelling or not spelling else tuple(spelling)
        tokens, place = [], 0
        while place < len(word):
            for length in range(min(self._longest, len(word) - place), 0, -1):
                if (token := self.letters.get(word[place : place + length])) is not None:
                    tokens.append(token)
                    place += length
                    break
            else:
                return None
        return tuple(tokens) or None

    def in_case(self, text: str) -> str:
        """The text in the only case that the vocabulary has; as it is where there are both, or neither."""
        lower = any(token != token.upper() for token in self.letters)
        upper = any(token != token.lower() for token in self.letters)
        return text if lower == upper else text.lower() if lower else text.upper()

    def spell_all(self, words: Iterable[str], what: str) -> dict[Spelling, str]:
        """The spelling of each word, or a ValueError that lists the words that cannot be spelled."""
        spellings, impossible = {}, []
        for word in words:
            spelling = self.spell(word)
            if spelling is None:
                impossible.append(word)
            else:
                spellings[spelling] = word
        if impossible:
            characters = sorted({c for word in impossible for c in word} - self.letters.keys())
            raise ValueError(
                f"{what}: {len(impossible)} words cannot be spelled with the vocabulary, such as {impossible[:5]}; "
                f"it lacks {''.join(characters)[:60]!r}. Is upper or lower case mistaken?"
            )
        return spellings

    def read_lexicon(self, lexicon: Iterable[str] | Mapping[str, Iterable[str]]) -> dict[Spelling, str]:
        """Spellings of a lexicon: words, or for each word its spellings as tokens with blanks between ("k ae t")."""
        if not isinstance(lexicon, Mapping):
            return self.spell_all(lexicon, "lexicon")
        spellings: dict[Spelling, str] = {}
        for word, variants in lexicon.items():
            for variant in [variants] if isinstance(variants, str) else variants:
                tokens = variant.split()
                unknown = [token for token in tokens if token not in self.letters]
                if unknown or not tokens:
                    raise ValueError(
                        f"lexicon: {word!r} is spelled {variant!r}, but {unknown} are not in the vocabulary"
                    )
                spelling = tuple(self.letters[token] for token in tokens)
                if spellings.setdefault(spelling, word) != word:
                    raise ValueError(f"lexicon: {word!r} and {spellings[spelling]!r} have one spelling, {variant!r}")
        return spellings

    def split(self, tokens: Iterable[int]) -> list[Spelling]:
        """The words that a row of tokens spells."""
        if self.delimiter is None:
            return [(token,) for token in tokens]
        words: list[list[int]] = [[]]
        for token in tokens:
            if token == self.delimiter:
                words.append([])
            else:
                words[-1].append(token)
        return [tuple(word) for word in words if word]

    def join(self, spelling: Spelling) -> str:
        """The word that tokens spell."""
        return "".join(self.vocabulary[token] for token in spelling)
