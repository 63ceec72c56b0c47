"""The certificates of a local federation: who they are for, how long they live, and who can read the keys."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from simulations.deployment.certificates import ServerCertificates, make_server_certificates, write_secret

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path) -> ServerCertificates:
    return make_server_certificates(tmp_path / "tls", now=NOW)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(files: ServerCertificates, *, authority: Path, name: str, at: datetime) -> None:
    subject = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    verifier = PolicyBuilder().store(Store([load(authority)])).time(at).build_server_verifier(subject)
    verifier.verify(load(files.certificate), [])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_server_is_trusted_under_its_loopback_names(files: ServerCertificates, name: str) -> None:
    verify(files, authority=files.authority, name=name, at=NOW)


def test_the_server_is_not_trusted_under_another_name(files: ServerCertificates) -> None:
    with pytest.raises(VerificationError):
        verify(files, authority=files.authority, name="federation.example", at=NOW)


def test_the_server_is_not_trusted_by_whoever_trusts_another_authority(
    files: ServerCertificates, tmp_path: Path
) -> None:
    other = make_server_certificates(tmp_path / "other", now=NOW)

    with pytest.raises(VerificationError):
        verify(files, authority=other.authority, name="localhost", at=NOW)


@pytest.mark.parametrize("at", [NOW - timedelta(hours=1), NOW + timedelta(days=8)])
def test_the_certificate_is_good_for_days_only(files: ServerCertificates, at: datetime) -> None:
    with pytest.raises(VerificationError):
        verify(files, authority=files.authority, name="localhost", at=at)


def test_the_server_key_fits_its_certificate_and_is_no_authoritys(files: ServerCertificates) -> None:
    key = load_pem_private_key(files.private_key.read_bytes(), None)

    assert key.public_key() == load(files.certificate).public_key()
    constraints = load(files.certificate).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


def test_only_the_owner_reads_a_key_and_the_authoritys_is_not_kept(files: ServerCertificates) -> None:
    assert stat.S_IMODE(files.private_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.private_key.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in files.private_key.parent.iterdir()) == ["ca.crt", "server.crt", "server.key"]


def test_a_secret_is_never_overwritten(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", b"first")

    with pytest.raises(FileExistsError):
        write_secret(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
