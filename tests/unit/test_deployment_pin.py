"""What a node runs: how a bundle is named, what ours holds, and when it is refused."""

import hashlib
import itertools
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from client import flower_internals
from client.bundle import build_bundle, bundle_contents, bundle_digest, parse_digest
from server.superlink import SuperLinkSettings, executor_command, superlink_command
from shared.errors import BadSetting, BundleRefused, DeploymentError
from tests.integration.deployment_apps import write_app

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Fab:
    """The part of Flower's bundle that the node looks at."""

    content: bytes
    hash_str: str


@dataclass
class Run:
    """The part of Flower's run that the node looks at."""

    fab_hash: str
    fab_id: str = "zhiyin-tests/toy"
    fab_version: str = "1.0.0"
    run_id: int = 7


@dataclass
class Delivery:
    """A bundle on the allow-list, delivered for a run that says the truth about it."""

    fab: Fab
    run: Run
    allowed: frozenset[str] = field(default_factory=frozenset)

    def check(self) -> None:
        flower_internals.require_allowed(self.fab, self.run, self.allowed)


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    content = build_bundle(write_app(tmp_path / "toy", name="toy"))
    digest = bundle_digest(content)
    return Delivery(fab=Fab(content, digest), run=Run(fab_hash=digest), allowed=frozenset({digest}))


def test_a_bundle_on_the_list_is_accepted(delivery: Delivery) -> None:
    delivery.check()


def test_a_bundle_that_is_not_on_the_list_is_refused(delivery: Delivery) -> None:
    delivery.allowed = frozenset({"0" * 64})

    with pytest.raises(BundleRefused, match=r"bundle [0-9a-f]{64} of run 7 is not on this node's allow-list"):
        delivery.check()


def test_a_changed_byte_is_refused_whatever_digest_the_server_claims(delivery: Delivery) -> None:
    content = bytearray(delivery.fab.content)
    content[-1] ^= 1
    delivery.fab.content = bytes(content)

    with pytest.raises(BundleRefused, match="allow-list"):
        delivery.check()


def test_a_run_that_names_another_bundle_than_the_delivered_is_refused(delivery: Delivery) -> None:
    delivery.run.fab_hash = "0" * 64

    with pytest.raises(BundleRefused, match="names another bundle"):
        delivery.check()


def test_a_claimed_digest_that_would_lead_to_another_folder_is_refused(delivery: Delivery) -> None:
    delivery.fab.hash_str = "0" * 64

    with pytest.raises(BundleRefused, match="names another bundle"):
        delivery.check()


@pytest.mark.parametrize(
    ("app", "version"),
    [
        ("zhiyin-tests/other", "1.0.0"),
        ("zhiyin-tests/toy", "2.0.0"),
        ("zhiyin-tests/toy", "1.0.0/../../../../tmp/elsewhere"),
    ],
)
def test_a_run_that_names_another_app_version_or_path_is_refused(delivery: Delivery, app: str, version: str) -> None:
    delivery.run.fab_id, delivery.run.fab_version = app, version

    with pytest.raises(BundleRefused, match="another app or version"):
        delivery.check()


def test_the_installed_flower_is_the_one_that_the_pin_was_checked_for() -> None:
    flower_internals.require_known_flower()


def test_another_release_of_flower_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flwr.__version__", "1.41.1")

    with pytest.raises(DeploymentError, match=r"flwr 1\.41\.1 is installed, .* install flwr==1\.41\.0"):
        flower_internals.require_known_flower()


@pytest.mark.parametrize("name", sorted(flower_internals.KNOWN_SOURCES))
def test_a_changed_file_of_flowers_is_not_started(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(flower_internals.KNOWN_SOURCES, name, hashlib.sha256(b"another file").hexdigest())

    with pytest.raises(DeploymentError, match=f"{name} is not the file"):
        flower_internals.require_known_flower()


def test_the_node_pins_nothing_on_a_flower_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flwr.__version__", "1.42.0")

    with pytest.raises(DeploymentError):
        flower_internals.pin_bundles(frozenset({"0" * 64}), on_connected=lambda _: None)


def test_the_same_files_make_the_same_bundle_wherever_and_whenever_they_lie(tmp_path: Path) -> None:
    first = write_app(tmp_path / "first", name="toy")
    second = Path(shutil.copytree(first, tmp_path / "second", copy_function=shutil.copyfile))
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "cached.py").write_text("not of the app")
    (second / ".hidden").mkdir()
    (second / ".hidden" / "secret.py").write_text("not of the app")

    assert bundle_digest(first) == bundle_digest(second)


def test_flowers_own_build_makes_the_same_bytes(tmp_path: Path) -> None:
    from flwr.cli.build import build_fab_from_disk

    app = write_app(tmp_path / "toy", name="toy")

    with pytest.warns(DeprecationWarning, match="GitWildMatchPattern"):
        theirs = build_fab_from_disk(app)
    assert build_bundle(app) == theirs


def test_one_changed_line_makes_another_digest(tmp_path: Path) -> None:
    app = write_app(tmp_path / "toy", name="toy")
    before = bundle_digest(app)

    (app / "client" / "app.py").write_text((app / "client" / "app.py").read_text() + "\n")

    assert bundle_digest(app) != before


def test_a_folder_without_an_app_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=f"{tmp_path}: no app bundle can be built here"):
        build_bundle(tmp_path)


def test_our_bundle_holds_the_three_packages_and_nothing_else() -> None:
    contents = bundle_contents(build_bundle(REPOSITORY))

    metadata = {"pyproject.toml", "LICENSE"}
    for path in set(contents) - metadata:
        assert PurePosixPath(path).parts[0] in {"server", "client", "shared"}, path
        assert path.endswith(".py"), path
        assert contents[path] == hashlib.sha256((REPOSITORY / path).read_bytes()).hexdigest(), path
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("server", "client", "shared")
        for path in (REPOSITORY / package).rglob("*.py")
    }
    assert set(contents) == expected | metadata


def test_a_stray_file_in_our_packages_would_be_noticed_by_the_contents(tmp_path: Path) -> None:
    for name in ("server", "client", "shared"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    clean = bundle_contents(build_bundle(tmp_path))

    for stray in ("client/keys.json", "client/store.db", "platform_api/app.py", "tests/test_x.py", "data/ratings.py"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_text("x = 1\n")
    assert bundle_contents(build_bundle(tmp_path)) == clean

    (tmp_path / "client" / "stray.py").write_text("x = 1\n")
    assert set(bundle_contents(build_bundle(tmp_path))) - set(clean) == {"client/stray.py"}


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "0" * 63, "0" * 65])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="64 hexadecimal digits"):
        parse_digest(text)


def test_a_digest_is_read_in_any_case() -> None:
    assert parse_digest(" " + "AB" * 32 + "\n") == "ab" * 32


def superlink(tmp_path: Path, **changes: object) -> SuperLinkSettings:
    for name in ("ca.crt", "server.crt", "server.key", "secret"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    fields: dict[str, object] = {
        "port": 8000,
        "authority": tmp_path / "ca.crt",
        "certificate": tmp_path / "server.crt",
        "private_key": tmp_path / "server.key",
        "database": tmp_path / "state.db",
        "executor_secret": tmp_path / "secret",
    }
    return SuperLinkSettings(**(fields | changes))  # type: ignore[arg-type]


def test_the_superlink_starts_with_tls_registered_nodes_a_secret_and_on_loopback(tmp_path: Path) -> None:
    command = superlink_command(superlink(tmp_path))

    assert "--enable-supernode-auth" in command
    assert "--insecure" not in command
    options = dict(itertools.pairwise(command))
    assert options["--host"] == "127.0.0.1"
    assert options["--isolation"] == "process"
    assert options["--superexec-auth-secret-file"] == str(tmp_path / "secret")
    assert options["--superexec-auth-secret-file"] in executor_command(superlink(tmp_path))


def test_a_secret_that_others_can_read_is_refused_with_the_mend(tmp_path: Path) -> None:
    superlink(tmp_path)
    loose = tmp_path / "loose"
    loose.write_text("x")
    loose.chmod(0o640)

    with pytest.raises(BadSetting, match=f"chmod 600 {loose}"):
        superlink(tmp_path, executor_secret=loose)
