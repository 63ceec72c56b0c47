"""What may become a model of the platform, and what is refused and why."""

import threading
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from platform_api.models.evaluation import KIND, BadReport, Evaluation, read_report
from platform_api.models.gate import Limits, LiveModel, metric_reasons, privacy_reasons
from shared.artifact import ArtifactFiles, seal_artifact
from shared.mechanism import DiscreteGaussian, Gaussian, PoissonSampledGaussian
from shared.signed_document import sign_document
from tests.platform_cast import API, Shop, opened_shop
from tests.platform_models import NOISE, artifact, catalogue_of, publisher_of, statement

LIMITS = Limits(max_epsilon=8.0, max_delta=1e-5, margin=2_000)


def _codes(answer: Any) -> set[str]:
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["state"] == "refused") == bool(body["reasons"])
    return {reason["code"] for reason in body["reasons"]}


def _count(shop: Shop, table: str) -> int:
    with shop.app.state.database.reading() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_a_signed_model_of_a_known_catalogue_with_a_true_statement_is_a_candidate(shop: Shop) -> None:
    publisher = publisher_of(shop)
    answer = publisher.offer(artifact())
    assert _codes(answer) == set()
    assert answer.json()["state"] == "candidate"
    assert shop.http.get(f"{API}/models/recommender/live").status_code == 404
    assert shop.http.get(f"{API}/models/recommender/versions/1/model").status_code == 404


def test_what_no_trusted_publisher_signed_leaves_no_row_and_no_file(shop: Shop) -> None:
    publisher = publisher_of(shop)
    files = seal_artifact(artifact(), publisher.key)
    own = publisher.public_key.hex().encode()
    stranger = Ed25519PrivateKey.generate()
    forged = seal_artifact(artifact(), stranger)
    damaged = {
        "other key": forged,
        "claimed key": ArtifactFiles(
            model=forged.model,
            manifest=forged.manifest.replace(stranger.public_key().public_bytes_raw().hex().encode(), own),
        ),
        "changed manifest": ArtifactFiles(
            model=files.model, manifest=files.manifest.replace(b'"version":1', b'"version":2')
        ),
        "changed model": ArtifactFiles(model=files.model[:-1] + b"\x01", manifest=files.manifest),
        "no json": ArtifactFiles(model=files.model, manifest=b"[" * 50_000),
        "list": ArtifactFiles(model=files.model, manifest=b"[1]"),
    }
    for damage, bad in damaged.items():
        answer = publisher.post(bad, publisher.report(bad))
        assert answer.status_code == 422, damage
        assert answer.headers["content-type"] == "application/problem+json"
    assert _count(shop, "model_versions") == _count(shop, "privacy_releases") == 0
    assert not list((shop.settings.data_folder / "models").glob("*"))
    # The same upload with nothing changed is taken, so it is the damage that was refused.
    assert _codes(publisher.post(files, publisher.report(files))) == set()


def test_a_revoked_publisher_is_trusted_no_more(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    assert publisher.offer(artifact(2)).status_code == 201
    assert publisher.operator.send("DELETE", f"/model-publishers/{publisher.id}").status_code == 204
    assert publisher.offer(artifact(3)).status_code == 422
    assert publisher.promote(2).status_code == 409
    wish = {"name": "again", "public_key": publisher.public_key.hex()}
    assert publisher.operator.post("/model-publishers", wish).status_code == 409


def test_a_model_of_a_catalogue_that_was_never_published_is_refused(shop: Shop) -> None:
    publisher = publisher_of(shop)
    other = catalogue_of(seed=8)
    assert _codes(publisher.offer(artifact(catalogue=other), other)) == {"unknown-catalogue"}
    assert publisher.promote(1).status_code == 409


def test_a_model_that_cannot_rank_its_catalogue_is_refused(shop: Shop) -> None:
    publisher = publisher_of(shop)
    tensors = {**artifact().tensors}
    tensors["popularity"] = tensors["popularity"][:-1]
    assert _codes(publisher.offer(artifact(1, tensors=tensors))) == {"cannot-rank"}
    del tensors["popularity"]
    assert _codes(publisher.offer(artifact(2, tensors=tensors))) == {"cannot-rank"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"epsilon": 0.5}, "privacy-understated"),
        ({"epsilon": 8.01}, "epsilon-too-large"),
        ({"epsilon": 1.7976931348623157e308, "mechanisms": ()}, "no-mechanism"),
        ({"epsilon": -1.0}, "epsilon-too-large"),
        ({"delta": 2e-5}, "delta-too-large"),
        ({"delta": 0.0}, "delta-too-large"),
        ({"unit": "one click"}, "other-unit"),
        ({"adjacency": "replace one"}, "other-adjacency"),
        ({"mechanisms": (*NOISE, Gaussian(noise_std=1.0, sensitivity=1.0))}, "privacy-understated"),
        ({"mechanisms": (DiscreteGaussian(noise_std=1, sensitivity=1.0, num_coordinates=9),)}, "privacy-understated"),
        (
            {"mechanisms": (PoissonSampledGaussian(sample_rate=0.1, noise_multiplier=9.0, steps=1),)},
            "mechanism-unknown",
        ),
    ],
)
def test_a_privacy_statement_that_is_too_weak_or_not_true_is_refused(changes: dict[str, Any], code: str) -> None:
    assert code in {reason.code for reason in privacy_reasons(statement(**changes), LIMITS)}
    assert privacy_reasons(statement(), LIMITS) == []


def test_a_refused_model_is_on_the_privacy_ledger(shop: Shop) -> None:
    publisher = publisher_of(shop)
    assert _codes(publisher.offer(artifact(privacy=statement(epsilon=0.5)))) == {"privacy-understated"}
    # Refused, and still on the ledger: what it was made from has left the clients.
    (entry,) = shop.http.get(f"{API}/privacy-ledger").json()["items"]
    assert entry["refused"] is True


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"ndcg_at_10": 48_000}, set()),
        ({"ndcg_at_10": 47_999}, {"worse"}),
        ({"live_model_sha256": "0" * 64}, {"not-compared"}),
        ({"live_model_sha256": ""}, {"not-compared"}),
        ({"model_sha256": "0" * 64}, {"other-evaluation"}),
    ],
)
def test_a_model_must_rank_about_as_well_as_the_live_one_on_the_same_users(
    changes: dict[str, Any], codes: set[str]
) -> None:
    fields = {
        "model_sha256": "a" * 64, "catalogue_digest": "c" * 64, "test_set": "held out", "num_users": 500,
        "ndcg_at_10": 50_000, "live_model_sha256": "b" * 64, "live_ndcg_at_10": 50_000,
    }  # fmt: skip
    report = Evaluation(**{**fields, **changes})
    found = metric_reasons(report, ("a" * 64, "c" * 64), LiveModel(model_sha256="b" * 64), LIMITS)
    assert {reason.code for reason in found} == codes


@pytest.mark.parametrize("changes", [{"num_users": 0}, {"ndcg_at_10": 1_000_001}, {"extra": 1}, {"test_set": 5}])
def test_a_report_that_says_nothing_usable_is_refused(changes: dict[str, Any]) -> None:
    key = Ed25519PrivateKey.generate()
    fields = {
        "model_sha256": "a" * 64, "catalogue_digest": "c" * 64, "test_set": "held out", "num_users": 500,
        "ndcg_at_10": 50_000, "live_model_sha256": "", "live_ndcg_at_10": 0,
    }  # fmt: skip
    public = key.public_key().public_bytes_raw().hex()
    assert read_report(sign_document(KIND, fields, key), public).num_users == 500
    with pytest.raises(BadReport):
        read_report(sign_document(KIND, {**fields, **changes}, key), public)


def test_a_worse_model_is_refused_and_the_live_one_stays(shop: Shop) -> None:
    publisher = publisher_of(shop)
    publisher.make_live(1)
    assert _codes(publisher.offer(artifact(2), ndcg_at_10=47_999)) == {"worse"}
    assert publisher.promote(2).status_code == 409
    assert b'"version":1' in shop.http.get(f"{API}/models/recommender/live").content


def test_an_evaluation_counts_only_when_the_publisher_signed_it(shop: Shop) -> None:
    publisher = publisher_of(shop)
    files = seal_artifact(artifact(), publisher.key)
    assert _codes(publisher.post(files, None)) == {"no-evaluation"}
    other = seal_artifact(artifact(2), publisher.key)
    tampered = publisher.report(other, ndcg_at_10=1).replace(b'"ndcg_at_10": 1', b'"ndcg_at_10": 9')
    assert _codes(publisher.post(other, tampered)) == {"bad-evaluation"}


def test_the_gate_is_passed_again_at_promotion_beside_what_is_live_then(shop: Shop) -> None:
    publisher = publisher_of(shop)
    for version in (1, 2):
        assert _codes(publisher.offer(artifact(version))) == set()
    assert publisher.promote(1).status_code == 200
    late = publisher.promote(2)
    assert late.status_code == 409
    assert [reason["code"] for reason in late.json()["reasons"]] == ["not-compared"]


def test_the_same_artifact_again_is_the_same_version_and_another_one_is_a_conflict(shop: Shop) -> None:
    publisher = publisher_of(shop)
    files = seal_artifact(artifact(), publisher.key)
    report = publisher.report(files)
    first, again = publisher.post(files, report), publisher.post(files, report)
    assert first.json() == again.json()
    assert publisher.offer(artifact(1, seed=99)).status_code == 409
    assert _count(shop, "model_versions") == _count(shop, "privacy_releases") == 1


def test_candidates_come_from_programs_with_the_scope_and_are_promoted_by_operators(shop: Shop) -> None:
    publisher = publisher_of(shop)
    files = seal_artifact(artifact(), publisher.key)
    tenant = publisher.operator.post("/tenants", {"name": "Academy"}).json()["id"]
    for caller in (*(shop.machine(one, tenant_id=tenant) for one in ("fl:join", "catalog:write")), shop.register()):
        assert publisher.post(files, publisher.report(files), by=caller).status_code == 403
        assert caller.get("/models/recommender/versions").status_code == 403
    assert publisher.offer(artifact()).status_code == 201
    assert publisher.program.post("/models/recommender/versions/1/promote", {}).status_code == 403
    assert publisher.program.get("/models/recommender/versions").json()["items"][0]["version"] == 1


def test_an_upload_has_a_limit_of_its_own_and_is_read_after_the_caller_is_known(settings_of: Any) -> None:
    with opened_shop(settings_of(max_body_bytes=2_000, max_model_bytes=5_000)) as shop:
        publisher = publisher_of(shop)
        assert _codes(publisher.offer(artifact())) == set()
        large = ArtifactFiles(model=bytes(600_000), manifest=b"{}")
        assert publisher.post(large, None).status_code == 413
        nobody = shop.http.post(f"{API}/models/recommender/candidates", files={"model": bytes(300_000)})
        assert nobody.status_code == 401
        wrong = publisher.program.post("/models/recommender/candidates", {"manifest": "x"})
        assert wrong.status_code == 415
        assert publisher.program.post("/models/recommender/versions", {"a": "x" * 3_000}).status_code == 413
        assert publisher.post(large, None, name="other_name").status_code in (413, 422)


def test_the_parts_of_an_upload_are_the_stated_ones(shop: Shop) -> None:
    publisher = publisher_of(shop)
    for name in ("manifest", "unknown"):
        answer = shop.http.post(
            f"{API}/models/recommender/candidates", files={name: ("f", b"{}")}, headers=publisher.program.headers
        )
        assert answer.status_code == 422


def test_one_of_many_promotions_at_once_wins(shop: Shop) -> None:
    publisher = publisher_of(shop)
    for version in range(1, 4):
        assert _codes(publisher.offer(artifact(version))) == set()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda v=version: statuses.append(publisher.promote(v).status_code))
        for version in range(1, 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The others were compared with nothing live, which is not so any more.
    assert sorted(statuses) == [200, 409, 409]
    states = [row["state"] for row in publisher.program.get("/models/recommender/versions").json()["items"]]
    assert sorted(states) == ["candidate", "candidate", "live"]
