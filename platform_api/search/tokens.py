"""What a text is found by. Made here, so that SQLite and PostgreSQL index and find the same.

Their own tokenisers take a run of Chinese for one word. Here a run of an unspaced script gives its pairs of
neighbouring characters and, for queries of one character, its single ones; other words are lower-cased and lose an
English plural. Full-width and other compatibility forms are folded by NFKC before.
"""

import re
import unicodedata
from collections.abc import Iterator

# Kana, CJK with its extensions, Hangul, compatibility forms.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_RUNS = re.compile(f"([{_UNSPACED}]+)|([^\\W_{_UNSPACED}]+)")
_MAX_WORD = 40


def document_tokens(text: str) -> Iterator[str]:
    """Every token that the text can be found by, with repetitions."""
    for run, word in _parts(text):
        if word:
            yield word
        else:
            yield from run
            yield from _pairs(run)


def query_tokens(text: str, most: int = 32) -> tuple[str, ...]:
    """The tokens that a query asks for, each once, in order; no more than `most`."""
    wanted: dict[str, None] = {}
    for run, word in _parts(text):
        wanted.update(dict.fromkeys([word] if word else _pairs(run) if len(run) > 1 else [run]))
    return tuple(wanted)[:most]


def index_word(token: str) -> str:
    """A token as the index holds it: an `x` and the hexadecimal digits of its UTF-8.

    Neither database then has an opinion on what a letter is, and no token can be taken for an operator.
    """
    return "x" + token.encode().hex()


def _parts(text: str) -> Iterator[tuple[str, str]]:
    # Lower-casing may undo a composition, so folding comes last as well.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    for match in _RUNS.finditer(folded):
        run, word = match.groups()
        yield run or "", _without_plural(word)[:_MAX_WORD] if word else ""


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]


def _without_plural(word: str) -> str:
    # Harman 1991, "How effective is suffixing?", table 1: the S stemmer. The first rule whose ending fits decides.
    if len(word) < 4 or not word.isascii():
        return word
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else word[:-3] + "y"
    if word.endswith("es"):
        return word if word.endswith(("aes", "ees", "oes")) else word[:-1]
    if word.endswith("s"):
        return word if word.endswith(("us", "ss")) else word[:-1]
    return word
