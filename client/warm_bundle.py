"""The code of an app bundle, imported once for all the messages that bring it.

A message's process is a fork that lives for one answer, and to unpack the bundle and import its modules is most of what
a small answer costs. So the first process says where it unpacked which bundle; its parent imports that, keeps the
modules apart from its own, and every later fork that is brought the same bytes finds them. One that is brought other
bytes, of another bundle on the node's list, unpacks and imports for itself.
"""

import gc
import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType

OUR_PACKAGES = ("client", "server", "shared", "simulations")
ENTRY = "client.app"


class WarmBundle:
    """At first no bundle; after `warm`, one. Forks inherit it."""

    def __init__(self) -> None:
        self.digest = ""
        self._folder = Path()
        self._modules: dict[str, ModuleType] = {}

    def warm(self, digest: str, folder: Path) -> None:
        """Import the bundle with this SHA-256 in hex, unpacked at `folder`; this process keeps its own modules.

        One that cannot be imported here is left to the messages' processes.
        """
        path, modules = list(sys.path), forget_our_modules()
        sys.path.insert(0, str(folder))
        self.digest, self._folder = digest, folder
        try:
            importlib.import_module(ENTRY)
        except Exception:
            self.digest = ""
        self._modules = forget_our_modules() | _forget_modules_of(folder)
        sys.path[:] = path
        sys.modules.update(modules)
        gc.freeze()  # or the first collection of every fork would write to, and so copy, the pages of all of this

    def take(self, content: bytes) -> bool:
        """In a fork that has forgotten our modules: if these are the bytes of the bundle, find its modules imported."""
        if not self.digest or hashlib.sha256(content).hexdigest() != self.digest:
            return False
        sys.path.insert(0, str(self._folder))
        sys.modules.update(self._modules)
        return True


def forget_our_modules() -> dict[str, ModuleType]:
    """Make the next import of our packages find a bundle's: what was reviewed is what runs. Returns what was there."""
    root = Path(__file__).resolve().parent.parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != root]
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in OUR_PACKAGES}


def _forget_modules_of(folder: Path) -> dict[str, ModuleType]:
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return {name: sys.modules.pop(name) for name, file in files.items() if file and Path(file).is_relative_to(folder)}
