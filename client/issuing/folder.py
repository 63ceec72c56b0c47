"""The issuer's folder: the key that signs lists, and the register, itself signed, so that nobody edits it unnoticed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from client.durable_files import make_folder, require_private, write_file
from client.issuing.register import Register, register_from_json, register_to_json
from shared.errors import BadSetting, ProtocolError
from shared.signed_document import read_document, sign_document, verify_document

KEY_FILE = "issuer.key"
REGISTER_FILE = "register.json"
KIND = "zhiyin-register-1"
_MEND = "put the newest copy back; a register made anew would repeat epochs, which every client refuses"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class IssuerFolder:
    """An opened folder; its register was verified."""

    folder: Path
    signing_key: Ed25519PrivateKey
    register: Register

    @property
    def public(self) -> str:
        """Ed25519, 64 hex digits: what every party pins as issuer_public_key."""
        return self.signing_key.public_key().public_bytes_raw().hex()

    @classmethod
    def create(cls, folder: Path) -> "IssuerFolder":
        """A new key and an empty register. BadSetting if the folder holds either: an identity is not replaced."""
        if any((folder / name).exists() for name in (KEY_FILE, REGISTER_FILE)):
            raise BadSetting(f"{folder}: an issuer is here already; its identity is not replaced")
        try:
            make_folder(folder)
            key = Ed25519PrivateKey.generate()
            write_file(folder / KEY_FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        except OSError as error:
            raise BadSetting(f"{folder}: it cannot be made ({error.strerror}); choose another folder") from error
        made = cls(folder=folder, signing_key=key, register=Register(epoch=0, members=(), retired=()))
        return made.saved(made.register)

    @classmethod
    def open(cls, folder: Path) -> "IssuerFolder":
        """Raises BadSetting, naming the file, for a key or a register that is missing, damaged or not this issuer's."""
        key, path = _load_key(folder / KEY_FILE), folder / REGISTER_FILE
        require_private(path, mend=_MEND)
        try:
            fields, signature = read_document(KIND, path.read_bytes())
            public = key.public_key().public_bytes_raw().hex()
            verify_document(KIND, fields, signature, public, "this issuer's key")
            register = register_from_json(fields)
        except (ProtocolError, BadSetting) as error:
            raise BadSetting(f"{path}: {error}; {_MEND}") from error
        return cls(folder=folder, signing_key=key, register=register)

    def saved(self, register: Register) -> "IssuerFolder":
        """The folder with `register` in it, durably; a crash leaves the old one or the new one."""
        document = sign_document(KIND, register_to_json(register), self.signing_key)
        write_file(self.folder / REGISTER_FILE, document)
        return IssuerFolder(folder=self.folder, signing_key=self.signing_key, register=register)


@contextmanager
def opened_alone(folder: Path) -> Iterator[IssuerFolder]:
    """The folder for this process alone: two commands at once would publish one epoch twice."""
    require_private(folder / KEY_FILE, mend="make an issuer with `zhiyin issuer init`")
    descriptor = os.open(folder / KEY_FILE, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadSetting(f"{folder}: another command is at work there; wait for it") from None
        yield IssuerFolder.open(folder)
    finally:
        os.close(descriptor)


def _load_key(path: Path) -> Ed25519PrivateKey:
    require_private(path, mend="make an issuer with `zhiyin issuer init`, or name its folder with --issuer")
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message is dropped on purpose: it may quote the file.
        raise BadSetting(f"{path}: no unencrypted private key can be read from it; restore it from a backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSetting(f"{path}: an Ed25519 private key is needed here")
    return key
