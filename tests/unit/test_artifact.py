from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.accounting import PrivacyStatement
from shared.artifact import Artifact, ArtifactFiles, open_artifact, seal_artifact
from shared.errors import ArtifactRejected, CatalogueMismatch
from shared.mechanism import DiscreteGaussian

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def artifact() -> Artifact:
    privacy = PrivacyStatement(
        epsilon=1.0,
        delta=1e-6,
        against="the server and other tenants, if one helper is honest",
        mechanisms=(DiscreteGaussian(noise_std=10_000, sensitivity=1000.0, num_coordinates=6),),
        tuned_on_data=False,
    )
    return Artifact(
        name="market",
        version=2,
        created=1_700_000_000,
        recipe="cooccurrence",
        catalogue_digest="a" * 64,
        plan_digest="b" * 64,
        settings={"kappa": 0.8},
        privacy=privacy,
        tensors={"popularity": np.arange(6, dtype=np.float32)},
    )


def test_a_sealed_model_opens_with_the_pinned_key() -> None:
    opened = open_artifact(seal_artifact(artifact(), KEY), publisher_public_key=PUBLIC, catalogue_digest="a" * 64)
    assert (opened.name, opened.version, opened.settings, opened.privacy) == (
        "market",
        2,
        {"kappa": 0.8},
        artifact().privacy,
    )
    np.testing.assert_array_equal(opened.tensors["popularity"], np.arange(6, dtype=np.float32))


def test_one_flipped_byte_anywhere_is_refused() -> None:
    files = seal_artifact(artifact(), KEY)
    for name in ("model", "manifest"):
        data = getattr(files, name)
        for position in range(len(data) - (name == "manifest")):
            damaged = bytearray(data)
            damaged[position] ^= 1
            with pytest.raises(ArtifactRejected):
                open_artifact(replace(files, **{name: bytes(damaged)}), publisher_public_key=PUBLIC)


def test_another_publishers_signature_is_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(ArtifactRejected, match="pinned publisher key"):
        open_artifact(seal_artifact(artifact(), other), publisher_public_key=PUBLIC)


def test_a_model_for_another_catalogue_is_refused() -> None:
    with pytest.raises(CatalogueMismatch, match="market version 2"):
        open_artifact(seal_artifact(artifact(), KEY), publisher_public_key=PUBLIC, catalogue_digest="c" * 64)


def test_a_tensor_that_is_not_finite_is_never_published() -> None:
    with pytest.raises(ArtifactRejected, match="popularity"):
        seal_artifact(replace(artifact(), tensors={"popularity": np.array([np.nan])}), KEY)


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b"\xff", b'{"signature":"zz"}'])
def test_a_manifest_that_is_no_manifest_is_refused(manifest: bytes) -> None:
    with pytest.raises(ArtifactRejected):
        open_artifact(ArtifactFiles(model=b"", manifest=manifest), publisher_public_key=PUBLIC)
