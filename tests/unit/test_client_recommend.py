"""Local recommendations: only from a model that the pinned publisher signed for this catalogue."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.home import ClientHome
from client.recommend import install_model, installed_model, suggest
from client.rejects import Rejects
from client.store import Event
from shared.artifact import MANIFEST_FILE, MODEL_FILE
from shared.errors import ArtifactRejected, BadSetting, CatalogueMismatch, NoInteractions
from shared.published import ranking_model, settings_and_tensors
from shared.ranking import RankingModel, Recommendation, recommend
from tests.unit.client_homes import make_artifact, make_catalogue, make_home, write_artifact

PUBLISHER = Ed25519PrivateKey.generate()


@pytest.fixture
def home(tmp_path: Path) -> ClientHome:
    made = make_home(tmp_path, publisher_public_key=PUBLISHER.public_key().public_bytes_raw().hex())
    rows = [
        Event(row=2, user="ann", item="course-4", position=1.0, weight=1.0),
        Event(row=3, user="ann", item="course-7", position=2.0, weight=1.0),
    ]
    made.store.add(rows, catalogue=made.catalogue, order="timestamp", rejects=Rejects("f", "line", 1))
    return made


def test_the_best_items_come_first_with_titles_and_reasons(home: ClientHome, tmp_path: Path) -> None:
    install_model(home, write_artifact(tmp_path / "model", make_artifact(), PUBLISHER))
    first, second, third, *_ = suggest(home, "ann", 5)
    assert (first.item_id, first.title, first.because_of) == ("course-8", "Course 8", "Course 7")
    assert (second.item_id, second.because_of) == ("course-5", "Course 4")
    assert "Course 7" in first.reason
    assert first.score > second.score > third.score
    assert third.because_of == ""


def test_what_the_user_has_is_not_recommended(home: ClientHome, tmp_path: Path) -> None:
    install_model(home, write_artifact(tmp_path / "model", make_artifact(), PUBLISHER))
    listed = [line.item_id for line in suggest(home, "ann", 50)]
    assert len(listed) == 10
    assert not {"course-4", "course-7"} & set(listed)


def test_a_model_signed_by_another_key_is_refused(home: ClientHome, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "model", make_artifact(), Ed25519PrivateKey.generate())
    with pytest.raises(ArtifactRejected, match="pinned publisher"):
        install_model(home, folder)
    assert installed_model(home) is None


def test_without_a_pinned_publisher_no_model_is_accepted(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "model", make_artifact(), PUBLISHER)
    with pytest.raises(BadSetting, match="publisher_public_key is empty"):
        install_model(make_home(tmp_path), folder)


def test_a_model_of_another_catalogue_is_refused(home: ClientHome, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "model", make_artifact(make_catalogue(version=2)), PUBLISHER)
    with pytest.raises(CatalogueMismatch):
        install_model(home, folder)


@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE])
def test_a_model_changed_after_it_was_installed_is_refused_at_use(home: ClientHome, tmp_path: Path, name: str) -> None:
    install_model(home, write_artifact(tmp_path / "model", make_artifact(), PUBLISHER))
    (path,) = home.models.glob(f"*/{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactRejected):
        suggest(home, "ann", 5)


def test_a_refused_model_leaves_the_installed_one(home: ClientHome, tmp_path: Path) -> None:
    install_model(home, write_artifact(tmp_path / "good", make_artifact(), PUBLISHER))
    bad = write_artifact(tmp_path / "bad", make_artifact(version=4), Ed25519PrivateKey.generate())
    with pytest.raises(ArtifactRejected):
        install_model(home, bad)
    installed = installed_model(home)
    assert installed is not None
    assert installed.version == 3


def test_a_newer_model_replaces_the_installed_one(home: ClientHome, tmp_path: Path) -> None:
    for version in (3, 4):
        folder = write_artifact(tmp_path / str(version), make_artifact(version=version), PUBLISHER)
        install_model(home, folder)
    installed = installed_model(home)
    assert installed is not None
    assert installed.version == 4
    assert len([path for path in home.models.iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize("name", ["../keys", "..", "", "a/b"])
def test_the_pointer_to_the_model_cannot_leave_its_folder(home: ClientHome, name: str) -> None:
    (home.models / "current").write_text(name)
    with pytest.raises(ArtifactRejected, match="install the model again"):
        installed_model(home)


def test_without_a_model_or_a_history_the_mend_is_told(home: ClientHome, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="zhiyin client install"):
        suggest(home, "ann", 5)
    install_model(home, write_artifact(tmp_path / "model", make_artifact(), PUBLISHER))
    with pytest.raises(NoInteractions):
        suggest(home, "zoe", 5)
    with pytest.raises(BadSetting, match="-k"):
        suggest(home, "ann", 0)


def test_a_folder_without_a_model_is_told(home: ClientHome, tmp_path: Path) -> None:
    with pytest.raises(ArtifactRejected, match=r"manifest\.json"):
        install_model(home, tmp_path / "nothing")


def test_a_model_comes_out_of_an_artifact_as_it_went_in() -> None:
    model = ranking_model(make_artifact())
    settings, tensors = settings_and_tensors(model)
    assert settings == make_artifact().settings
    assert set(tensors) == {"popularity", "head", "item_weights"}
    assert all(np.array_equal(tensors[name], make_artifact().tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {}},
        {"settings": {"readout": "weights"}},
        {"settings": {"readout": "oracle", "fold_in": make_artifact().settings["fold_in"]}},
        {"settings": {"readout": "weights", "fold_in": {"recency": 1.0}}},
        {"settings": {"readout": "weights", "fold_in": {**make_artifact().settings["fold_in"], "recency": -1.0}}},
        {"tensors": {}},
        {"tensors": {**make_artifact().tensors, "user_factors": np.ones((3, 2), dtype=np.float32)}},
        {"tensors": {**make_artifact().tensors, "popularity": np.ones(12)}},
        {"tensors": {**make_artifact().tensors, "head": np.array([0, 0], dtype=np.int32)}},
    ],
)
def test_a_signed_model_that_cannot_be_ranked_with_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ArtifactRejected):
        ranking_model(make_artifact(**changes))


@pytest.mark.parametrize("declared", [1, 500])
def test_a_device_ranks_with_the_whole_signed_model_as_a_service_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: int
) -> None:
    catalogue = make_catalogue(num_items=40)
    key = PUBLISHER.public_key().public_bytes_raw().hex()
    home = make_home(tmp_path, catalogue, publisher_public_key=key, declared_users=declared)
    event = Event(row=2, user="ann", item="course-4", position=1.0, weight=1.0)
    home.store.add([event], catalogue=catalogue, order="timestamp", rejects=Rejects("f", "line", 1))
    folder = write_artifact(tmp_path / "model", make_artifact(catalogue), PUBLISHER)
    install_model(home, folder)
    ranked: list[RankingModel] = []

    def noting(model: RankingModel, *arguments: Any, **options: Any) -> list[Recommendation]:
        ranked.append(model)
        return recommend(model, *arguments, **options)

    monkeypatch.setattr("client.recommend.recommend", noting)
    assert [line.item_id for line in suggest(home, "ann", 1)] == ["course-5"]
    (weights,) = [model.item_weights for model in ranked]
    assert weights is not None
    assert weights.shape == (40, 40)
    (installed,) = home.models.rglob(MODEL_FILE)
    assert installed.read_bytes() == (folder / MODEL_FILE).read_bytes()
