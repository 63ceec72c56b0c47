"""JSON that everybody reads alike: each key once, no number that is none."""

import json
from pathlib import Path

import pytest

from client.cli import _read_json
from client.fetching import _read_manifest
from client.issuing.folder import REGISTER_FILE, IssuerFolder
from server.settings import load_plan
from shared.canonical import strict_json
from shared.catalogue import catalogue_from_bytes
from shared.enrolment import open_request
from shared.errors import ArtifactRejected, BadSetting, MalformedFile, MalformedMessage
from shared.plan import plan_to_json
from shared.signed_document import read_document, sign_document
from tests.secagg_cast import signing_key
from tests.unit.client_homes import CATALOGUE, cooccurrence
from tests.unit.test_enrolment import NOW, SIGNED


def twice(data: bytes, key: str) -> bytes:
    """The document with another value for a key before its own, which most readers pass over."""
    name = json.dumps(key).encode()
    assert data.count(name) == 1
    return data.replace(name, name + b": null, " + name)


def test_what_json_is_to_most_readers_is_narrower_here() -> None:
    assert strict_json(b'{"a": [{"b": 1.5}, {"b": 2}]}') == {"a": [{"b": 1.5}, {"b": 2}]}
    for text in ('{"a": 1, "a": 1}', '[{"a": {"b": 1, "b": 2}}]', "NaN", '{"a": -Infinity}', "{", ""):
        with pytest.raises(ValueError, match=r"twice|is not JSON|Expecting"):
            strict_json(text)


@pytest.mark.parametrize("key", ["kind", "fields", "name", "created_at", "not_after"])
def test_a_signed_document_with_a_key_twice_is_refused(key: str) -> None:
    assert open_request(SIGNED, NOW).name == "north"
    # By what most readers see, the signature is right: it is over the last of each key.
    assert json.loads(twice(SIGNED, key)) == json.loads(SIGNED)
    with pytest.raises(MalformedMessage, match="a key twice"):
        open_request(twice(SIGNED, key), NOW)


def test_every_kind_of_signed_document_is_read_so() -> None:
    data = twice(sign_document("zhiyin-any-1", {"a": {"b": 1}}, signing_key("north")), "b")
    with pytest.raises(MalformedMessage, match="a key twice"):
        read_document("zhiyin-any-1", data)


def test_a_register_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    IssuerFolder.create(tmp_path / "issuer")
    path = tmp_path / "issuer" / REGISTER_FILE
    path.write_bytes(twice(path.read_bytes(), "retired"))
    with pytest.raises(BadSetting, match="a key twice"):
        IssuerFolder.open(tmp_path / "issuer")


def test_a_pinned_catalogue_with_a_key_twice_is_refused() -> None:
    with pytest.raises(MalformedFile, match="a key twice"):
        catalogue_from_bytes(twice(CATALOGUE.to_bytes(), "num_features"))


def test_a_plan_with_a_key_twice_is_refused_wherever_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(twice(json.dumps(plan_to_json(cooccurrence())).encode(), "epsilon"))
    for read in (load_plan, _read_json):
        with pytest.raises(BadSetting, match="a key twice"):
            read(path)


def test_what_a_manifest_names_is_not_fetched_if_it_names_it_twice() -> None:
    manifest = b'{"version": 1, "model_sha256": "' + b"a" * 64 + b'", "model_size_bytes": 1}'
    assert _read_manifest(manifest).version == 1
    with pytest.raises(ArtifactRejected):
        _read_manifest(twice(manifest, "version"))
