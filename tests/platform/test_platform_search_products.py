"""Searching: the same on both databases, narrowed, counted, paged, and remembered nowhere."""

import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from platform_api.catalogue import queries as catalogue
from platform_api.catalogue import service
from platform_api.catalogue.queries import Filters
from platform_api.columns import metadata
from platform_api.search import queries
from platform_api.search.index import counted
from platform_api.search.ranking import Candidate, Corpus, ranked
from platform_api.search.tables import install_search
from platform_api.search.tokens import query_tokens
from tests.catalogue_cast import Market, open_market
from tests.platform_cast import API, Shop, opened_shop, settings_for

PIECES = (
    *("隐私", "计算", "学习", "课程", "编程", "数据", "分析", "入门", "深度学习", "联邦学习", "的", "课"),
    *("python", "course", "privacy", "learning", "data", "Ｐｙ３", "books"),
)
QUERIES = (
    *("学习", "课程", "隐私", "课", "的", "隐私计算课程", "深度学习入门", "没有的词"),
    *("python", "Python 学习", "learning courses", "Py3", "数据分析 data", "book"),
    *("x' OR 1", '"quoted" NEAR *', "a|b & !c"),
)


@pytest.fixture
def market(shop: Shop) -> Market:
    return open_market(shop)


def corpus(size: int, seed: str = "corpus") -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "kind": chance.choice(["course", "e-book", "consulting"]),
            "title": "".join(chance.choices(PIECES, k=3)) + " " + chance.choice(PIECES),
            "description": " ".join(chance.choices(PIECES, k=chance.randrange(12))),
            "language": chance.choice(["zh-CN", "en"]),
            "category": chance.choice(["privacy", "programming", "subjects"]),
            "price_minor": chance.randrange(5) * 100,
            "currency": chance.choice(["CNY", "USD"]),
        }
        for _ in range(size)
    ]


def ask(market: Market, query: str, **more: Any) -> Any:
    answer = market.shop.http.get(f"{API}/search", params={"q": query, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def found(market: Market, query: str, **more: Any) -> list[str]:
    return [entry["id"] for entry in ask(market, query, **more)["items"]]


@pytest.fixture(scope="module")
def two(lasting_shop: Callable[[], Shop]) -> tuple[Market, str]:
    """A market with two products, and the id of the one that is looked for."""
    market = open_market(lasting_shop())
    wanted, _ = market.stock(
        [
            {"title": "Python学习课程", "description": "A course on 隐私", "category": "programming"},
            {"title": "別的", "description": "something else", "category": "subjects"},
        ]
    )
    return market, wanted


@pytest.fixture(scope="module")
def stocked(lasting_shop: Callable[[], Shop]) -> Market:
    """A market with sixty products, for tests that only ask."""
    market = open_market(lasting_shop())
    market.stock(corpus(60))
    return market


@pytest.mark.parametrize("query", ["学习", "课程", "隐私", "课", "python", "PYTHON", "ｐｙｔｈｏｎ", "courses", "编程"])
def test_words_of_two_characters_of_one_and_of_english_are_found(two: tuple[Market, str], query: str) -> None:
    market, wanted = two
    assert found(market, query) == [wanted]


def test_both_databases_give_the_same_products_in_the_same_order(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE search_alike")
    url = postgres.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", "/search_alike?")
    answers = []
    for name, address in (("one", f"sqlite:///{tmp_path}/alike.db"), ("two", url)):
        numbers = count()
        monkeypatch.setattr(service, "new_id", lambda prefix, numbers=numbers: f"{prefix}_{next(numbers):05}")
        with opened_shop(settings_for(address, tmp_path / name)) as shop:
            open_market(shop).stock(corpus(120))
            with shop.app.state.database.reading() as session:
                found_here = [queries.find(session, query, Filters(), None, 1000) for query in QUERIES]
        answers.append([[(hit.score, hit.product.id) for hit in answer.hits] for answer in found_here])
    assert answers[0] == answers[1]
    assert sum(len(answer) for answer in answers[0]) > 300


def test_the_index_misses_nothing_that_reading_every_product_would_find(stocked: Market) -> None:
    with stocked.shop.app.state.database.reading() as session:
        tree = catalogue.categories(session)
        everything = []
        for product in catalogue.published_products(session, None):
            names = " ".join(f"{e.name_zh} {e.name_en}" for e in catalogue.path_of(tree, product.category))
            counts, lengths = counted((product.title, names, product.description))
            everything.append(Candidate(product_id=product.id, counts=counts, lengths=lengths))
        sums = [sum(entry.lengths[place] for entry in everything) for place in range(3)]
        whole = Corpus(size=len(everything), lengths=(sums[0], sums[1], sums[2]))
        for query in QUERIES:
            tokens = query_tokens(query)
            holding = [entry for entry in everything if set(tokens) & set(entry.counts)]
            hits = queries.find(session, query, Filters(), None, 1000).hits
            assert [(hit.score, hit.product.id) for hit in hits] == ranked(tokens, holding, whole), query


FILTERS = st.builds(
    Filters,
    kind=st.sampled_from([None, "course", "e-book", "consulting"]),
    category=st.sampled_from([None, "privacy", "programming", "subjects", "nowhere"]),
    language=st.sampled_from([None, "zh-CN", "en"]),
    currency=st.sampled_from([None, "CNY", "USD"]),
    min_price_minor=st.sampled_from([None, 0, 100, 300]),
    max_price_minor=st.sampled_from([None, 0, 200, 400]),
)


@settings(max_examples=25, deadline=None)
@given(query=st.sampled_from(QUERIES), filters=FILTERS)
def test_filters_keep_exactly_what_fits_in_the_order_without_them(
    stocked: Market, query: str, filters: Filters
) -> None:
    with stocked.shop.app.state.database.reading() as session:
        whole = queries.find(session, query, Filters(), None, 1000)
        narrowed = queries.find(session, query, filters, None, 1000)
        listed = catalogue.listed(session, filters, "newest", None, 1000)
    kept = {product.id for product in listed}
    assert [hit.product.id for hit in narrowed.hits] == [h.product.id for h in whole.hits if h.product.id in kept]
    assert narrowed.total == len(narrowed.hits)
    for name, counts in narrowed.facets.items():
        chosen = getattr(filters, name)
        if chosen is None:
            assert counts == Counter(getattr(hit.product, name) for hit in narrowed.hits)
        elif name != "category":
            assert counts.get(chosen, 0) == narrowed.total


@settings(max_examples=25, deadline=None)
@given(query=st.text(min_size=1, max_size=40))
def test_no_query_breaks_the_search(stocked: Market, query: str) -> None:
    with stocked.shop.app.state.database.reading() as session:
        queries.find(session, query, Filters(), None, 10)


def test_a_facet_counts_what_choosing_it_would_give(stocked: Market) -> None:
    facets = ask(stocked, "学习", language="en")["facets"]
    assert set(facets["kind"]) == {"course", "e-book", "consulting"}
    for name in ("kind", "language"):
        for value, number in facets[name].items():
            assert ask(stocked, "学习", **{"language": "en", name: value})["total"] == number


def test_pages_of_a_search_follow_one_another_without_gap_or_repetition(stocked: Market) -> None:
    whole = found(stocked, "学习", limit=100)
    assert len(whole) > 15
    pages: list[str] = []
    answer = ask(stocked, "学习", limit=7)
    while True:
        pages += [entry["id"] for entry in answer["items"]]
        if not answer["has_more"]:
            break
        answer = ask(stocked, "学习", limit=7, cursor=answer["next_cursor"])
    assert pages == whole
    first = ask(stocked, "学习", limit=7)["next_cursor"]
    other = stocked.shop.http.get(f"{API}/search", params={"q": "课程", "limit": 7, "cursor": first})
    assert other.status_code == 400


def test_a_query_without_a_word_finds_nothing(market: Market) -> None:
    market.published()
    answer = ask(market, "!?")
    assert (answer["items"], answer["total"], answer["facets"]["kind"]) == ([], 0, {})
    assert market.shop.http.get(f"{API}/search", params={"q": ""}).status_code == 422
    assert market.shop.http.get(f"{API}/search", params={"q": "课" * 201}).status_code == 422


CANARY = "canary病历查询9f3a"


def test_what_is_asked_is_in_no_log_metric_or_table(market: Market, capfd: pytest.CaptureFixture[str]) -> None:
    market.published()
    ask(market, CANARY)
    for bad in ({"q": CANARY, "limit": 0}, {"q": CANARY * 30}, {"q": CANARY, "cursor": "AAAA"}):
        answer = market.shop.http.get(f"{API}/search", params=bad)
        assert answer.status_code in (400, 422)
        assert "canary" not in answer.text
    shown = capfd.readouterr()
    logged = shown.out + shown.err
    assert logged.count("route=/search") == 4
    metrics = market.shop.http.get("/metrics").text
    assert 'route="/search"' in metrics
    database = market.shop.app.state.database
    with database.reading() as session:
        tables = [str(session.execute(text(f'SELECT * FROM "{name}"')).all()) for name in metadata.tables]
    for place in (logged, metrics, *tables):
        for trace in ("canary", "病历", "%E7%97%85", "e79785", "病"):
            assert trace not in place


def test_an_undone_publication_leaves_nothing_in_the_index(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    from platform_api.catalogue import routes

    product_id = market.draft(title="Undone")
    market.step(market.creator, product_id, "submit")
    tag = market.etag(market.reviewer, product_id)

    def broken(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(routes, "_managed", broken)
    assert market.reviewer.post(f"/products/{product_id}/publish", **{"If-Match": tag}).status_code == 500
    monkeypatch.undo()
    assert ask(market, "undone")["total"] == 0
    with market.shop.app.state.database.reading() as session:
        assert queries.candidates(session, ["undone"]) == []
    market.step(market.reviewer, product_id, "publish")
    assert found(market, "undone") == [product_id]


def test_an_archived_product_is_no_candidate_any_more(market: Market) -> None:
    product_id = market.published(title="Leaving")
    market.step(market.creator, product_id, "archive")
    with market.shop.app.state.database.reading() as session:
        assert queries.candidates(session, ["leaving"]) == []


def test_installing_twice_changes_nothing_and_the_index_is_used(market: Market) -> None:
    market.stock(corpus(30))
    database = market.shop.app.state.database
    with database.writing() as session:
        install_search(session.connection())
    with database.reading() as session:
        if database.is_sqlite:
            plan = session.execute(
                text("EXPLAIN QUERY PLAN SELECT rowid FROM search_index WHERE search_index MATCH 'x61'")
            ).all()
        else:
            session.execute(text("SET LOCAL enable_seqscan = off"))
            plan = session.execute(
                text(
                    "EXPLAIN SELECT 1 FROM search_documents "
                    "WHERE to_tsvector('simple'::regconfig, words) @@ to_tsquery('simple', 'x61')"
                )
            ).all()
    assert "search_index" in str(plan)
    assert ask(market, "学习")["total"] > 0


def test_tables_are_dropped_and_made_again_with_their_index(market: Market) -> None:
    engine = market.shop.app.state.database.engine
    metadata.drop_all(engine)
    metadata.create_all(engine)
    again = open_market(market.shop)
    product_id = again.published(title="Second life")
    assert found(again, "second life") == [product_id]
