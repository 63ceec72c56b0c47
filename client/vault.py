"""The keys of one client: whom it is, what is sealed to it, and how Flower knows its node. They never leave `keys/`."""

from dataclasses import dataclass
from pathlib import Path
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

from client.durable_files import make_folder, require_private, write_file
from shared.errors import BadSetting

SIGNING_FILE = "sign.key"
SEALING_FILE = "seal.key"
NODE_FILE = "node.key"
NODE_PUBLIC_FILE = "node.pub"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Vault:
    """Loaded keys.

    signing_key: Ed25519, signs contributions and helper answers. sealing_key: X25519, opens mask seeds sealed to this
    party as a helper. node_key_path: the P-384 key in OpenSSH form that `flower-supernode
    --auth-supernode-private-key` reads; node_public_path is its other half, for `flwr supernode register`.
    """

    folder: Path
    signing_key: ed25519.Ed25519PrivateKey
    sealing_key: x25519.X25519PrivateKey

    @classmethod
    def create(cls, folder: Path) -> "Vault":
        """New keys from the system's randomness. BadSetting if the folder holds keys: an identity is not replaced."""
        if any((folder / name).exists() for name in (SIGNING_FILE, SEALING_FILE, NODE_FILE)):
            raise BadSetting(f"{folder}: it holds keys already; move them away first if they are to be replaced")
        make_folder(folder)
        signing, sealing = ed25519.Ed25519PrivateKey.generate(), x25519.X25519PrivateKey.generate()
        node = ec.generate_private_key(ec.SECP384R1())
        for name, key, form in (
            (SIGNING_FILE, signing, PrivateFormat.PKCS8),
            (SEALING_FILE, sealing, PrivateFormat.PKCS8),
            (NODE_FILE, node, PrivateFormat.OpenSSH),
        ):
            write_file(folder / name, key.private_bytes(Encoding.PEM, form, NoEncryption()))
        public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        write_file(folder / NODE_PUBLIC_FILE, public + b"\n")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Vault":
        """Load and check. Raises BadSetting for a key that is missing, readable by others, or of another kind."""
        signing, sealing, node = (_load(folder / name) for name in (SIGNING_FILE, SEALING_FILE, NODE_FILE))
        if not isinstance(signing, ed25519.Ed25519PrivateKey):
            raise BadSetting(f"{folder / SIGNING_FILE}: an Ed25519 private key is needed here")
        if not isinstance(sealing, x25519.X25519PrivateKey):
            raise BadSetting(f"{folder / SEALING_FILE}: an X25519 private key is needed here")
        if not isinstance(node, ec.EllipticCurvePrivateKey):
            raise BadSetting(f"{folder / NODE_FILE}: an elliptic-curve private key in OpenSSH form is needed here")
        return cls(folder=folder, signing_key=signing, sealing_key=sealing)

    @property
    def signing_public(self) -> str:
        """Ed25519 public key, 32 bytes in hex, as rosters and policies list it."""
        return self.signing_key.public_key().public_bytes_raw().hex()

    @property
    def sealing_public(self) -> str:
        """X25519 public key, 32 bytes in hex."""
        return self.sealing_key.public_key().public_bytes_raw().hex()

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


def _load(path: Path) -> object:
    require_private(path)
    data = path.read_bytes()
    try:
        return load_ssh_private_key(data, None) if path.name == NODE_FILE else load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message is dropped on purpose: it may quote the file.
        raise BadSetting(f"{path}: no unencrypted private key can be read from it; restore it from a backup") from None
