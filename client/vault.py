"""The keys of one client: whom it is, what is sealed to it, and how Flower knows its node. They never leave `keys/`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from client.durable_files import erase_file, make_folder, require_private, sync_folder, write_file
from shared.errors import BadSetting, UnknownKey
from shared.node_key import require_node_key
from shared.sealing_certificate import SealingCertificate, certify_sealing_key

SIGNING_FILE = "sign.key"
NODE_FILE = "node.key"
NODE_PUBLIC_FILE = "node.pub"
_SEALING_FILE = re.compile(r"seal-([0-9]{4,9})\.key")
_ERASED = ".erased"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Vault:
    """Loaded keys.

    signing_key: Ed25519, signs contributions, helper answers and certificates. sealing_keys: X25519 by number, oldest
    first, open mask seeds sealed to this party as a helper; seal-0001.key is the first ever made here.
    node_key_path: the P-384 key in OpenSSH form that `flower-supernode --auth-supernode-private-key` reads;
    node_public_path is its other half, for `flwr supernode register`.
    """

    folder: Path
    signing_key: ed25519.Ed25519PrivateKey
    sealing_keys: Mapping[int, x25519.X25519PrivateKey]
    half_erased: tuple[Path, ...]

    @classmethod
    def create(cls, folder: Path) -> "Vault":
        """New keys from the system's randomness. BadSetting if the folder holds keys: an identity is not replaced."""
        if any((folder / name).exists() for name in (SIGNING_FILE, NODE_FILE)) or _sealing_files(folder):
            raise BadSetting(f"{folder}: it holds keys already; move them away first if they are to be replaced")
        make_folder(folder)
        _write_signing_key(folder)
        _write_sealing_key(folder, 1)
        _write_node_key(folder)
        return cls.open(folder)

    @classmethod
    def make_lost(cls, folder: Path, *, signing: bool = False, node: bool = False) -> None:
        """A new signing or node key where the file is gone; one that is there, damaged or not, is left alone."""
        if signing and not (folder / SIGNING_FILE).exists():
            _write_signing_key(folder)
        if node and not (folder / NODE_FILE).exists():
            _write_node_key(folder)

    @classmethod
    def open(cls, folder: Path) -> "Vault":
        """Load and check. Raises BadSetting for a key that is missing, readable by others, or of another kind.

        A home without any sealing key opens: it can do everything but help, and `make_sealing_key` mends it.
        """
        signing, node = (_load(folder / name) for name in (SIGNING_FILE, NODE_FILE))
        if not isinstance(signing, ed25519.Ed25519PrivateKey):
            raise BadSetting(f"{folder / SIGNING_FILE}: an Ed25519 private key is needed here")
        if not isinstance(node, ec.EllipticCurvePrivateKey):
            raise BadSetting(f"{folder / NODE_FILE}: an elliptic-curve private key in OpenSSH form is needed here")
        sealing = {}
        for number, path in _sealing_files(folder).items():
            key = _load(path)
            if not isinstance(key, x25519.X25519PrivateKey):
                raise BadSetting(f"{path}: an X25519 private key is needed here")
            sealing[number] = key
        half_erased = tuple(sorted(folder.glob(f".seal-*{_ERASED}")))
        return cls(folder=folder, signing_key=signing, sealing_keys=MappingProxyType(sealing), half_erased=half_erased)

    @property
    def signing_public(self) -> str:
        """Ed25519 public key, 32 bytes in hex, as rosters and policies list it."""
        return self.signing_key.public_key().public_bytes_raw().hex()

    @property
    def sealing_public(self) -> str:
        """The newest X25519 public key, 32 bytes in hex; empty if there is none."""
        return _public(self.sealing_keys[max(self.sealing_keys)]) if self.sealing_keys else ""

    @property
    def node_public(self) -> str:
        """The node's public key in its one OpenSSH form, from the private one. Raises BadSetting unless on P-384."""
        node = _load(self.node_key_path)
        if not isinstance(node, ec.EllipticCurvePrivateKey):
            raise BadSetting(f"{self.node_key_path}: an elliptic-curve private key in OpenSSH form is needed here")
        try:
            return require_node_key(_openssh(node).decode("ascii"))
        except BadSetting as error:
            raise BadSetting(f"{self.node_key_path}: {error}") from error

    def opening_key(self, public: str) -> x25519.X25519PrivateKey:
        """The private half of `public` (X25519, 64 hex digits). Raises UnknownKey if this home does not hold it."""
        number = self._number(public)
        if number is None:
            raise UnknownKey(
                f"the roster lists the sealing key {public[:12]}…, which its helper does not hold; it has to send the "
                "issuer a new request"
            )
        return self.sealing_keys[number]

    def holds(self, public: str) -> bool:
        """Whether the private half of `public` (X25519, 64 hex digits) is here."""
        return self._number(public) is not None

    def certify(self, name: str, *, not_before: int, not_after: int) -> SealingCertificate:
        """This party's word that seals to `name` go to its newest sealing key. BadSetting where there is none."""
        if not self.sealing_keys:
            raise BadSetting(f"{self.folder}: there is no sealing key; make one with `zhiyin client keys rotate`")
        return certify_sealing_key(
            name, self.sealing_public, not_before=not_before, not_after=not_after, signing_key=self.signing_key
        )

    def make_sealing_key(self) -> "Vault":
        """The vault with one more sealing key, the newest. The others stay until `erase_older_than`."""
        for unfinished in self.folder.glob(".seal-*.part"):
            erase_file(unfinished)
        _write_sealing_key(self.folder, max(self.sealing_keys, default=0) + 1)
        return Vault.open(self.folder)

    def replace_signing_key(self) -> "Vault":
        """The vault under a new identity; the old one is gone. Nobody accepts it before the issuer has listed it."""
        _write_signing_key(self.folder)
        return Vault.open(self.folder)

    def replace_node_key(self) -> "Vault":
        """The vault with a new node key; the server knows it when its operator has registered the public half."""
        _write_node_key(self.folder)
        return Vault.open(self.folder)

    def erase_older_than(self, public: str) -> tuple[int, ...]:
        """Erase every sealing key made before the one whose public half is `public`; returns their numbers.

        What was sealed to them cannot be opened by anybody from then on. Erases nothing if `public` is not held here:
        a list that names an unknown key is no reason to destroy the known ones. A file is renamed before it is
        overwritten, so that a crash in between leaves a home that opens, and is finished here the next time.
        """
        for unfinished in self.half_erased:
            erase_file(unfinished)
        newest = self._number(public)
        gone = tuple(number for number in self.sealing_keys if newest is not None and number < newest)
        for number in gone:
            path = self.folder / _sealing_name(number)
            renamed = path.with_name(f".{path.name}{_ERASED}")
            try:
                os.replace(path, renamed)
            except FileNotFoundError:  # another process of this home was faster
                continue
            sync_folder(self.folder)
            erase_file(renamed)
        return gone

    def _number(self, public: str) -> int | None:
        return next((number for number, key in self.sealing_keys.items() if _public(key) == public), None)

    @property
    def node_key_path(self) -> Path:
        return self.folder / NODE_FILE

    @property
    def node_public_path(self) -> Path:
        return self.folder / NODE_PUBLIC_FILE

    def __repr__(self) -> str:
        return f"Vault(signing_public={self.signing_public[:12]}…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Vault holds private keys and is never pickled or copied; open it where it is needed")


def _public(key: x25519.X25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _sealing_name(number: int) -> str:
    return f"seal-{number:04d}.key"


def _sealing_files(folder: Path) -> dict[int, Path]:
    found = ((_SEALING_FILE.fullmatch(path.name), path) for path in folder.glob("seal-*.key"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def _write_signing_key(folder: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    write_file(folder / SIGNING_FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _write_sealing_key(folder: Path, number: int) -> None:
    key = x25519.X25519PrivateKey.generate()
    write_file(folder / _sealing_name(number), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _write_node_key(folder: Path) -> None:
    node = ec.generate_private_key(ec.SECP384R1())
    write_file(folder / NODE_FILE, node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    write_file(folder / NODE_PUBLIC_FILE, _openssh(node) + b"\n")


def _openssh(node: ec.EllipticCurvePrivateKey) -> bytes:
    return node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def _load(path: Path) -> object:
    require_private(path)
    data = path.read_bytes()
    try:
        return load_ssh_private_key(data, None) if path.name == NODE_FILE else load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message is dropped on purpose: it may quote the file.
        raise BadSetting(f"{path}: no unencrypted private key can be read from it; restore it from a backup") from None
