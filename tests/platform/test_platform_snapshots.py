"""Snapshots: signed, numbered, never changed, and refused by a client where anything differs."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from platform_api.snapshots import service
from platform_api.snapshots.files import public_key, signing_key, snapshot_file
from platform_api.snapshots.service import PublishedSnapshots
from shared.catalogue import CatalogueSnapshot
from shared.errors import BadSetting, BadSignature, CatalogueMismatch, MalformedMessage, ZhiyinError
from shared.signed_catalogue import SignedCatalogue, open_catalogue, sign_catalogue
from shared.signed_document import sign_document
from tests.catalogue_cast import Market, open_market
from tests.platform_cast import API, Shop


@pytest.fixture
def market(shop: Shop) -> Market:
    return open_market(shop)


def make(market: Market, status: int = 201) -> Any:
    answer = market.shop.register(None, "platform-operator").post("/snapshots")
    assert answer.status_code == status, answer.text
    return answer.json()


def fetch(market: Market, version: int) -> bytes:
    return bytes(market.shop.http.get(f"{API}/snapshots/{version}/file").content)


def opened(market: Market, view: dict[str, Any]) -> SignedCatalogue:
    """What a client that pinned the service's key makes of it."""
    pinned = public_key(market.shop.settings)
    return open_catalogue(json.dumps(view["document"]).encode(), fetch(market, view["version"]), pinned)


def ids(market: Market, view: dict[str, Any]) -> list[str]:
    return [item.id for item in opened(market, view).snapshot.items]


def test_a_client_reads_what_is_on_sale_and_nothing_else(market: Market) -> None:
    market.draft(title="unpublished-canary")
    first, second = market.stock([{"content": "paid-canary"}, {"title": "学习编程", "description": "隐私计算"}])
    market.edit(first, title="draft-canary")
    view = make(market)
    assert (view["version"], view["num_items"]) == (1, 2)
    snapshot = opened(market, view).snapshot
    assert [item.id for item in snapshot.items] == [first, second]
    assert snapshot.items[1].title == "学习编程"
    assert b"canary" not in fetch(market, 1)
    assert snapshot.digest == view["digest"]


def test_items_never_change_places_and_archived_ones_keep_theirs_without_text(market: Market) -> None:
    old = market.stock([{"title": f"第{number}课"} for number in range(4)])
    first = make(market)
    market.step(market.creator, old[1], "archive")
    new = market.stock([{"title": f"新课{number}"} for number in range(2)])
    market.edit(old[0], title="改名")
    market.release(old[0])
    second = make(market)
    assert ids(market, first) == old
    assert ids(market, second) == [*old, *new]
    held = opened(market, second)
    assert held.unavailable == {old[1]}
    assert (held.snapshot.items[1].title, held.snapshot.items[1].text) == ("", "")
    assert not held.snapshot.features[1].any()
    assert held.snapshot.items[0].title == "改名"
    never = market.draft()
    market.release(never)
    market.step(market.creator, never, "archive")
    assert never not in ids(market, second)
    make(market, 200)


def test_the_same_contents_make_no_second_version(market: Market) -> None:
    market.stock([{}, {}])
    first = make(market)
    market.draft()
    assert make(market, 200) == first
    listed = market.shop.http.get(f"{API}/snapshots").json()["items"]
    assert [entry["version"] for entry in listed] == [1]


def test_versions_are_listed_and_read_and_the_old_ones_stay(market: Market) -> None:
    assert market.shop.http.get(f"{API}/snapshots/latest").status_code == 404
    make(market, 409)
    views = []
    for _ in range(3):
        market.stock([{}])
        views.append(make(market))
    http = market.shop.http
    assert http.get(f"{API}/snapshots/latest").json() == views[2]
    assert http.get(f"{API}/snapshots/1").json() == views[0]
    assert http.get(f"{API}/snapshots/4").status_code == 404
    page = http.get(f"{API}/snapshots?limit=2").json()
    rest = http.get(f"{API}/snapshots?limit=2&cursor={page['next_cursor']}").json()
    assert [entry["version"] for entry in page["items"] + rest["items"]] == [3, 2, 1]
    assert len(opened(market, views[0]).snapshot.items) == 1


def test_a_client_refuses_another_file_another_signer_and_another_kind_of_document(market: Market) -> None:
    market.stock([{}, {}])
    view = make(market)
    data, pinned = fetch(market, 1), public_key(market.shop.settings)
    document = json.dumps(view["document"]).encode()
    snapshot = open_catalogue(document, data, pinned).snapshot
    for place in (0, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1
        with pytest.raises(CatalogueMismatch):
            open_catalogue(document, bytes(flipped), pinned)
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(BadSignature):
        open_catalogue(document, data, stranger.public_key().public_bytes_raw().hex())
    with pytest.raises(BadSignature):
        open_catalogue(sign_catalogue(snapshot, [], stranger), data, pinned)
    for field, value in (("version", 2), ("digest", "0" * 64), ("unavailable", [snapshot.items[0].id])):
        changed = {**view["document"], "fields": {**view["document"]["fields"], field: value}}
        with pytest.raises(BadSignature):
            open_catalogue(json.dumps(changed).encode(), data, pinned)
    key = signing_key(market.shop.settings)
    with pytest.raises(MalformedMessage):
        open_catalogue(sign_document("another-kind", view["document"]["fields"], key), data, pinned)
    moved = sign_document("another-kind", view["document"]["fields"], key).replace(
        b"another-kind", b"zhiyin-catalogue-snapshot-1"
    )
    with pytest.raises(BadSignature):
        open_catalogue(moved, data, pinned)


def test_a_signed_document_of_another_version_or_of_unknown_items_does_not_fit_the_file(market: Market) -> None:
    market.stock([{}])
    make(market)
    data, key, pinned = fetch(market, 1), signing_key(market.shop.settings), public_key(market.shop.settings)
    fields = {"version": 1, "digest": make(market, 200)["digest"], "num_items": 1, "unavailable": []}
    kind = "zhiyin-catalogue-snapshot-1"
    assert open_catalogue(sign_document(kind, fields, key), data, pinned).unavailable == set()
    for change in ({"version": 2}, {"unavailable": ["prd_unknown"]}):
        with pytest.raises(CatalogueMismatch):
            open_catalogue(sign_document(kind, {**fields, **change}, key), data, pinned)
    with pytest.raises(MalformedMessage):
        open_catalogue(sign_document(kind, {"version": 1}, key), data, pinned)


def test_the_file_is_fetched_in_parts_and_only_once(market: Market) -> None:
    market.stock([{}, {}])
    view = make(market)
    target, http = f"{API}/snapshots/1/file", market.shop.http
    whole = http.get(target)
    assert whole.headers["etag"] == f'"{view["digest"]}"'
    assert (len(whole.content), whole.headers["accept-ranges"]) == (view["size_bytes"], "bytes")
    part = http.get(target, headers={"Range": "bytes=5-14"})
    assert (part.status_code, part.content) == (206, whole.content[5:15])
    assert part.headers["content-range"] == f"bytes 5-14/{view['size_bytes']}"
    assert http.get(target, headers={"Range": "bytes=-4"}).content == whole.content[-4:]
    beyond = http.get(target, headers={"Range": f"bytes={view['size_bytes']}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{view['size_bytes']}")
    assert http.get(target, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_only_platform_operators_and_programs_with_the_scope_make_snapshots(market: Market) -> None:
    market.stock([{}])
    operator = market.shop.register(None, "platform-operator")
    tenant_id = operator.post("/tenants", {"name": "Academy"}).json()["id"]
    person = market.shop.register(None, "tenant-operator", tenant_id=tenant_id)
    assert person.post("/snapshots").status_code == 403
    assert market.creator.post("/snapshots").status_code == 403
    assert market.shop.machine("fl:join", tenant_id=tenant_id).post("/snapshots").status_code == 403
    assert market.shop.machine("catalog:write", tenant_id=tenant_id).post("/snapshots").status_code == 201


def test_of_two_made_at_once_one_is_kept(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.stock([{}, {}])
    state = market.shop.app.state
    before = service.build_text_features

    def slow(texts: Any) -> Any:
        import time

        time.sleep(0.2)
        return before(texts)

    monkeypatch.setattr(service, "build_text_features", slow)

    def attempt(_: int) -> int:
        try:
            service.make_snapshot(state.database, state.settings, market.shop.clock())
            return 201
        except Exception as error:
            return int(getattr(error, "status", 500))

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [201, 409]
    latest = make(market, 200)
    assert (latest["version"], len(ids(market, latest))) == (1, 2)


def test_the_key_is_made_once_for_its_owner_alone_and_refused_when_others_can_read_it(shop: Shop) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: public_key(shop.settings), range(8)))) == 1
    (path,) = (shop.settings.data_folder / "keys").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(BadSetting):
        signing_key(shop.settings)
    path.chmod(0o600)
    path.write_text("damaged")
    with pytest.raises(BadSetting):
        signing_key(shop.settings)


def test_snapshots_are_found_by_digest_and_a_damaged_file_is_refused(market: Market) -> None:
    market.stock([{}])
    digest = make(market)["digest"]
    known = PublishedSnapshots(market.shop.settings)
    with market.shop.app.state.database.reading() as session:
        found = known.catalogue(session, digest)
        assert isinstance(found, CatalogueSnapshot)
        assert (found.digest, known.known_digest(session, "0" * 64)) == (digest, False)
        path = snapshot_file(market.shop.settings, digest)
        path.write_bytes(path.read_bytes()[:-1] + b"\x99")
        for bad in (digest, "0" * 64):
            with pytest.raises(ZhiyinError):
                known.catalogue(session, bad)
        path.unlink()
        with pytest.raises(ZhiyinError):
            known.catalogue(session, digest)
    assert market.shop.http.get(f"{API}/snapshots/1/file").status_code == 503
