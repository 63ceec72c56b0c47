"""The executor imports a bundle once for all forks: for those that are brought these very bytes, and for no others."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import hashlib, os, sys, traceback
from pathlib import Path
import client.warm_bundle
import shared.errors
from client.warm_bundle import WarmBundle, forget_our_modules

def unpack(name, app):
    folder = Path(sys.argv[1]) / name
    for package in ("client", "shared", "other"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
    (folder / "client" / "app.py").write_text("import os, shared.values, other.values\\nby = os.getpid()\\n" + app)
    for package in ("shared", "other"):
        (folder / package / "values.py").write_text(f"name = {name!r}")
    return folder

def digest(content):
    return hashlib.sha256(content).hexdigest()

def in_fork(work):
    child = os.fork()
    if child == 0:
        forget_our_modules()
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
SAME = """
ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ("client", "shared")}
path = list(sys.path)
bundle, folder = WarmBundle(), unpack("first", "")
bundle.warm(digest(b"first"), folder)
assert path == sys.path
assert all(sys.modules[name] is module for name, module in ours.items())
assert not {"client.app", "shared.values", "other.values"} & set(sys.modules)
parent = os.getpid()

def work():
    assert bundle.take(b"first")
    import client.app, shared.values, other.values
    assert client.app.by == parent != os.getpid()
    assert (shared.values.name, other.values.name, sys.path[0]) == ("first", "first", str(folder))

in_fork(work)
print("well")
"""
OTHER = """
bundle = WarmBundle()
bundle.warm(digest(b"first"), unpack("first", ""))
second = unpack("second", "")

def work():
    assert not bundle.take(b"second")
    sys.path.insert(0, str(second))
    import client.app, shared.values, other.values
    assert client.app.by == os.getpid()
    assert (shared.values.name, other.values.name) == ("second", "second")

in_fork(work)
print("well")
"""
BROKEN = """
bundle = WarmBundle()
assert not bundle.take(b"")
bundle.warm(digest(b"broken"), unpack("broken", "raise RuntimeError('no')"))
assert sys.modules["shared.errors"] is shared.errors
assert not bundle.digest
assert not bundle.take(b"broken")
print("well")
"""


def outcome(tmp_path: Path, script: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_fork_that_is_brought_the_same_bytes_finds_the_bundle_imported(tmp_path: Path) -> None:
    assert outcome(tmp_path, SAME) == (0, "well\n", "")


def test_a_fork_that_is_brought_another_bundle_imports_that_one(tmp_path: Path) -> None:
    assert outcome(tmp_path, OTHER) == (0, "well\n", "")


def test_a_bundle_that_cannot_be_imported_ahead_is_left_to_the_forks(tmp_path: Path) -> None:
    assert outcome(tmp_path, BROKEN) == (0, "well\n", "")
