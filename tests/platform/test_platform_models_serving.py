"""Which model is live, taking it back, and fetching it to rank without the platform."""

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from platform_api.app import create_app
from platform_api.append_only import APPEND_ONLY
from platform_api.models.files import ArtifactStore
from platform_api.settings import Settings
from shared.artifact import ArtifactFiles, open_artifact
from shared.canonical import sha256_hex
from shared.published import ranking_model
from shared.ranking import recommend
from tests.platform_cast import API, Shop
from tests.platform_models import CATALOGUE, FixedSnapshots, artifact, publisher_of, ranking

LIVE = f"{API}/models/recommender/live"


def test_rolling_back_restores_the_version_before_and_its_etag(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    before = shop.http.get(LIVE)
    assert before.headers["etag"] == f'"{sha256_hex(before.content)}"'
    publisher.make_live(2)
    publisher.make_live(3)
    assert shop.http.get(LIVE, headers={"If-None-Match": before.headers["etag"]}).status_code == 200
    for version, restored in ((3, 2), (2, 1)):
        answer = publisher.operator.post(f"/models/recommender/versions/{version}/rollback")
        assert (answer.status_code, answer.json()["version"]) == (200, restored)
    after = shop.http.get(LIVE)
    assert (after.content, after.headers["etag"]) == (before.content, before.headers["etag"])
    assert shop.http.get(LIVE, headers={"If-None-Match": before.headers["etag"]}).status_code == 304
    # Once more would take back what nothing was before, and the same request again finds it is not live.
    for version in (1, 2):
        assert publisher.operator.post(f"/models/recommender/versions/{version}/rollback").status_code == 409


def test_the_history_tells_everything_in_order(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    assert publisher.offer(artifact(2)).status_code == 201
    assert publisher.promote(2, "shadow").status_code == 200
    assert publisher.promote(2, "shadow").status_code == 409
    assert publisher.promote(2).status_code == 200
    publisher.operator.post("/models/recommender/versions/2/rollback")
    seen = []
    cursor = ""
    while True:
        page = publisher.program.get(f"/models/recommender/history?limit=2{cursor}").json()
        seen += [(event["kind"], event["version"], event["previous_version"]) for event in page["items"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [
        ("posted", 1, None),
        ("promoted", 1, None),
        ("posted", 2, None),
        ("shadowed", 2, 1),
        ("promoted", 2, 1),
        ("rolled-back", 2, 1),
    ]


def test_the_database_itself_refuses_to_change_what_happened(shop: Shop) -> None:
    publisher_of(shop).make_live(1)
    for table in ("model_events", "privacy_releases"):
        assert table in APPEND_ONLY
        for change in ("UPDATE {} SET number = number + 100", "DELETE FROM {}"):
            with pytest.raises(DatabaseError, match="append-only"), shop.app.state.database.writing() as session:
                session.execute(text(change.format(table)))
        with shop.app.state.database.reading() as session:
            assert session.execute(text(f"SELECT min(number) FROM {table}")).scalar_one() < 100


def test_a_client_fetches_the_artifact_in_parts_and_ranks_alone(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    manifest = shop.http.get(LIVE).content
    address = f"{API}/models/recommender/versions/1/model"
    whole = shop.http.get(address)
    assert whole.headers["etag"] == f'"{sha256_hex(whole.content)}"'
    size, parts, start = len(whole.content), b"", 0
    while start < size:
        headers = {"Range": f"bytes={start}-{start + 999}", "If-Range": whole.headers["etag"]}
        part = shop.http.get(address, headers=headers)
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {start}-{min(start + 999, size - 1)}/{size}"
        assert int(part.headers["content-length"]) == len(part.content)
        parts += part.content
        start += 1000
    opened = open_artifact(
        ArtifactFiles(model=parts, manifest=manifest),
        publisher_public_key=publisher.public_key,
        catalogue_digest=CATALOGUE.digest,
    )
    history = np.array([3, 7], dtype=np.int32)
    alone = recommend(ranking_model(opened), CATALOGUE, history, 10)
    assert alone == recommend(ranking(CATALOGUE, 1), CATALOGUE, history, 10)
    version = shop.http.get(f"{API}/models/recommender/versions/1/manifest")
    assert version.content == manifest
    assert "immutable" in version.headers["cache-control"]


def test_ranges_follow_the_rules(shop: Shop) -> None:
    publisher_of(shop).make_live(1)
    address = f"{API}/models/recommender/versions/1/model"
    whole = shop.http.get(address)
    size = len(whole.content)
    for asked, expected in (
        ("bytes=-10", whole.content[-10:]),
        (f"bytes=-{size + 5}", whole.content),
        (f"bytes={size - 1}-", whole.content[-1:]),
        (f"bytes=5-{size + 100}", whole.content[5:]),
    ):
        answer = shop.http.get(address, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, expected), asked
    for ignored in ("bytes=9-3", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=x-1"):
        answer = shop.http.get(address, headers={"Range": ignored})
        assert (answer.status_code, answer.content) == (200, whole.content), ignored
    stale = shop.http.get(address, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, whole.content)
    for outside in (f"bytes={size}-", f"bytes={size + 7}-{size + 9}", "bytes=-0"):
        answer = shop.http.get(address, headers={"Range": outside})
        assert answer.status_code == 416, outside
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.headers["content-type"] == "application/problem+json"
    assert shop.http.get(address, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_a_version_that_was_never_live_is_not_handed_out(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    publisher.offer(artifact(2))
    for part in ("manifest", "model"):
        assert shop.http.get(f"{API}/models/recommender/versions/2/{part}").status_code == 404
    assert publisher.promote(2).status_code == 200
    for version in (1, 2):
        for part in ("manifest", "model"):
            assert shop.http.get(f"{API}/models/recommender/versions/{version}/{part}").status_code == 200


def test_a_version_whose_files_are_damaged_is_neither_promoted_nor_restored(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    publisher.make_live(2)
    store = ArtifactStore(shop.settings.data_folder)
    path = store.path(sha256_hex(publisher.posted[1].model))
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + b"\x01")
    back = publisher.operator.post("/models/recommender/versions/2/rollback")
    assert back.status_code == 409
    assert b'"version":2' in shop.http.get(LIVE).content
    # Posting the same artifact again mends the file.
    files = publisher.posted[1]
    assert publisher.post(files, publisher.report(files)).status_code == 201
    assert path.read_bytes() == sound
    assert publisher.operator.post("/models/recommender/versions/2/rollback").status_code == 200


def ready_anew(shop: Shop, **changes: Any) -> Any:
    """What another process on the same database says, which has loaded nothing yet."""
    app = create_app(Settings(**{**dict(shop.settings), **changes}), clock=shop.clock)
    app.state.snapshots = FixedSnapshots()
    with TestClient(app, base_url=shop.settings.public_url) as http:
        return http.get("/readyz")


def damage(shop: Shop, files: ArtifactFiles) -> None:
    path = ArtifactStore(shop.settings.data_folder).path(sha256_hex(files.model))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def test_the_service_is_ready_without_a_model_and_says_which_one_it_has(shop: Shop) -> None:
    publisher = publisher_of(shop)
    assert shop.http.get("/readyz").json() == {"status": "ready", "model": "none; new items are recommended"}
    publisher.make_live(1)
    assert shop.http.get("/readyz").json() == {"status": "ready", "model": "recommender 1"}
    publisher.make_live(2)
    for version, said in (
        (2, "recommender 1, for a later one that cannot be read"),
        (1, "recommender 2 cannot be read; new items are recommended"),
    ):
        damage(shop, publisher.posted[version])
        answer = ready_anew(shop)
        assert (answer.status_code, answer.json()["model"]) == (200, said)


def test_where_the_operator_asks_for_a_model_the_service_is_ready_once_one_is_loaded(shop: Shop) -> None:
    publisher = publisher_of(shop)

    def asked() -> Any:
        answer = ready_anew(shop, ready_needs_model=True)
        return answer.status_code, answer.json().get("detail")

    assert asked() == (503, "no model is live")
    publisher.make_live(1)
    assert asked() == (200, None)
    damage(shop, publisher.posted[1])
    assert asked() == (503, "the live model cannot be read")
