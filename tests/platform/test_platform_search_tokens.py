"""Tokens: what a text is found by, for any text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_api.search.ranking import Candidate, Corpus, ranked
from platform_api.search.tokens import document_tokens, index_word, query_tokens

WORDS = st.one_of(st.text(max_size=60), st.text(alphabet="学习隐私课程Pythonｐｙ１２３ s's-éÉßİﬁ㈱ー", max_size=60))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("学习", ("学习",)),
        ("隐私课程", ("隐私", "私课", "课程")),
        ("课", ("课",)),
        ("Python课", ("python", "课")),
        ("Ｐｙｔｈｏｎ　３", ("python", "3")),
        ("Courses studies classes glass bus", ("course", "study", "classe", "glass", "bus")),
        ("深度 学习 深度", ("深度", "学习")),
        ("!?。、", ()),
        ('x\' OR "1"* NEAR(a) | & !', ("x", "or", "1", "near", "a")),
    ],
)
def test_a_query_asks_for_these_tokens(text: str, tokens: tuple[str, ...]) -> None:
    assert query_tokens(text) == tokens


@given(WORDS)
def test_every_text_is_found_by_itself(text: str) -> None:
    assert set(query_tokens(text, most=1000)) <= set(document_tokens(text))


@given(WORDS)
def test_tokens_are_the_same_whatever_the_compatibility_form_and_the_case(text: str) -> None:
    assert query_tokens(text) == query_tokens(unicodedata.normalize("NFKC", text))
    if text.isascii():
        assert query_tokens(text) == query_tokens(text.upper())


@given(WORDS)
def test_index_words_are_plain_and_tell_tokens_apart(text: str) -> None:
    tokens = set(document_tokens(text))
    words = {index_word(token) for token in tokens}
    assert len(words) == len(tokens)
    assert all(word.isascii() and word.isalnum() and word[0] == "x" and len(word) < 500 for word in words)
    assert len(query_tokens(text, most=4)) <= 4


@given(st.text(alphabet="课程学习隐私", min_size=2, max_size=30), st.data())
def test_any_piece_of_chinese_is_found_in_the_whole(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    piece = text[start : data.draw(st.integers(start + 1, len(text)))]
    assert set(query_tokens(piece)) <= set(document_tokens(text))


def candidate(name: str, lengths: tuple[int, int, int] = (4, 4, 40), **counts: list[int]) -> Candidate:
    return Candidate(product_id=name, counts=counts, lengths=lengths)


def test_titles_weigh_more_than_categories_and_these_more_than_descriptions() -> None:
    corpus = Corpus(size=10, lengths=(40, 40, 400))
    found = [candidate("c", a=[0, 0, 1]), candidate("b", a=[0, 1, 0]), candidate("a", a=[1, 0, 0])]
    assert [name for _, name in ranked(["a"], found, corpus)] == ["a", "b", "c"]


def test_rare_tokens_weigh_more_and_shorter_texts_win_and_ties_go_by_id() -> None:
    corpus = Corpus(size=10, lengths=(40, 40, 400))
    found = [
        candidate("d", often=[1, 0, 0], rare=[1, 0, 0]),
        candidate("c", often=[2, 0, 0], rare=[0, 0, 1]),
        candidate("b", often=[1, 0, 0], other=[1, 0, 0]),
        candidate("a", often=[1, 0, 0], other=[1, 0, 0]),
        candidate("e", lengths=(9, 4, 40), often=[1, 0, 0], other=[1, 0, 0]),
    ]
    assert [name for _, name in ranked(["often", "rare"], found, corpus)] == ["d", "c"]
    assert [name for _, name in ranked(["often"], found, corpus)] == ["c", "a", "b", "d", "e"]
