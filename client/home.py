"""The home of one client: a private folder with its policy, store, catalogue, ledger, keys and models.

policy.toml     what this client insists on            ledger.db, ledger.marks   what was ever released
store.db        histories; never sent                  keys/                     signing, sealing and node keys
catalogue.bin   the public snapshot in use             models/                   verified artifacts
roster.bin      the newest list of parties, to look at; which one counts is in the ledger
pairwise.db     open rounds without helpers, encrypted; made when the first is begun
invitation.json, superlink-ca.crt, catalogue.json   of the platform that it joined: what it pinned, and the signed
                document of the snapshot in use

A home that serves as a helper only, by its policy, has no store: there is no history that anybody could ask for.
"""

import os
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from client.durable_files import make_folder, sync_folder, write_file
from client.ledger import Ledger
from client.policy import LocalPolicy
from client.policy_file import load_policy, render_policy
from client.store import Store
from client.vault import Vault
from shared.catalogue import CatalogueSnapshot, catalogue_from_bytes
from shared.errors import BadSetting, MalformedFile

POLICY_FILE = "policy.toml"
STORE_FILE = "store.db"
CATALOGUE_FILE = "catalogue.bin"
SIGNED_CATALOGUE_FILE = "catalogue.json"
LEDGER_FILE = "ledger.db"
ROSTER_FILE = "roster.bin"
KEYS_FOLDER = "keys"
MODELS_FOLDER = "models"


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientHome:
    """An opened home; everything in it was checked on opening."""

    folder: Path
    policy: LocalPolicy
    catalogue: CatalogueSnapshot
    histories: Store | None
    ledger: Ledger
    vault: Vault

    @property
    def name(self) -> str:
        return self.policy.name

    def at(self, now: int) -> "ClientHome":
        """This home at `now`, Unix seconds, which its ledger records. Raises ClockSetBack (`Ledger.at`)."""
        return replace(self, ledger=self.ledger.at(now))

    @property
    def store(self) -> Store:
        """The histories. Raises BadSetting where the policy lets this home serve as a helper only."""
        if self.histories is None:
            raise BadSetting(
                f"{self.folder}: it keeps no histories, for serve_as in policy.toml lists the role helper alone"
            )
        return self.histories

    @property
    def kept_roster(self) -> Path:
        return self.folder / ROSTER_FILE

    @property
    def models(self) -> Path:
        return self.folder / MODELS_FOLDER

    @classmethod
    def create(cls, folder: Path, *, policy: LocalPolicy, catalogue: CatalogueSnapshot) -> "ClientHome":
        """A new home with fresh keys, an empty store (none for a helper only) and an empty ledger, whole or not at all.

        Raises BadSetting if `folder` exists and is not empty, or cannot be made.
        """
        folder = folder.absolute()
        draft = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.part")
        try:
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise BadSetting(f"{folder}: it exists and is not empty; choose another folder for the home")
            make_folder(folder.parent)
            make_folder(draft)
        except OSError as error:
            raise BadSetting(f"{folder}: it cannot be made ({error.strerror}); choose another folder") from error
        try:
            write_file(draft / POLICY_FILE, render_policy(policy).encode())
            write_file(draft / CATALOGUE_FILE, catalogue.to_bytes())
            if policy.serves_tenant:
                Store.create(draft / STORE_FILE, catalogue)
            Ledger.create(draft / LEDGER_FILE)
            Vault.create(draft / KEYS_FOLDER)
            make_folder(draft / MODELS_FOLDER)
            os.replace(draft, folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_folder(folder.parent)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "ClientHome":
        """Open and verify. Raises BadSetting, MalformedFile or CatalogueMismatch, each naming the file."""
        folder = require_home(folder)
        catalogue = read_catalogue(folder / CATALOGUE_FILE)
        policy = load_policy(folder / POLICY_FILE)
        store = Store.open(folder / STORE_FILE) if policy.serves_tenant else None
        if store is not None:
            catalogue.require(store.catalogue_digest, str(store.path))
        return cls(
            folder=folder,
            policy=policy,
            catalogue=catalogue,
            histories=store,
            ledger=open_ledger(folder, policy),
            vault=Vault.open(folder / KEYS_FOLDER),
        )

    @classmethod
    def adopt_catalogue(cls, folder: Path, catalogue: CatalogueSnapshot) -> int:
        """Move a home to another snapshot; returns how many events are of items that it no longer lists.

        A crash in between leaves a store for the new snapshot beside the old file. Opening refuses that by name, and
        doing this again mends it, which is why it asks for a folder and not for an opened home.
        """
        folder = folder.absolute()
        serves_tenant = load_policy(folder / POLICY_FILE).serves_tenant
        left_out = Store.open(folder / STORE_FILE).adopt(catalogue) if serves_tenant else 0
        write_file(folder / CATALOGUE_FILE, catalogue.to_bytes())
        return left_out


def require_home(folder: Path) -> Path:
    """The absolute path of a folder that holds a home. Raises BadSetting."""
    folder = folder.absolute()
    if not (folder / POLICY_FILE).is_file():
        raise BadSetting(f"{folder}: no home is here; make one with `zhiyin client init`")
    return folder


def open_ledger(folder: Path, policy: LocalPolicy) -> Ledger:
    """The home's ledger, checked against its marks wherever the policy keeps them."""
    return Ledger.open(folder / LEDGER_FILE, marks=Path(policy.ledger_marks) if policy.ledger_marks else None)


def read_catalogue(path: Path) -> CatalogueSnapshot:
    """A snapshot from a file; MalformedFile naming the file."""
    try:
        return catalogue_from_bytes(path.read_bytes())
    except OSError as error:
        raise MalformedFile(f"{path}: the catalogue snapshot cannot be read ({error.strerror})") from error
    except MalformedFile as error:
        raise MalformedFile(f"{path}: {error}") from error
