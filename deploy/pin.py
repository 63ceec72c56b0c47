"""Prints the part of constraints.txt that the platform's image needs: `python deploy/pin.py > deploy/requirements.txt`.

Run in the development environment, whose packages say what each of them needs.
"""

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
_HEADER = "# Made by deploy/pin.py from constraints.txt. Do not edit.\n"
# The image runs Linux; what a wheel is built with is needed too.
_ENVIRONMENT = {"python_version": "3.11", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}


def blocks(constraints: str) -> dict[str, str]:
    """Canonical name -> its lines with version and digests."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(?:[^\n]*\\\n)*[^\n]*\n", constraints, re.MULTILINE)
    starts = [match.start() for match in re.finditer(r"^[A-Za-z0-9._-]+==", constraints, re.MULTILINE)]
    ends = [*starts[1:], len(constraints)]
    texts = (constraints[start:end] for start, end in zip(starts, ends, strict=True))
    return {
        str(canonicalize_name(name)): "".join(
            line + "\n" for line in text.splitlines() if not line.lstrip().startswith("#")
        )
        for name, text in zip(found, texts, strict=True)
    }


def needed(project: Path) -> set[str]:
    """Names of all packages that the bare install and its extra `platform` bring."""
    import tomllib

    said = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    todo = [Requirement(text) for text in [*said["dependencies"], *said["optional-dependencies"]["platform"]]]
    todo += [Requirement("setuptools"), Requirement("wheel")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        key = (str(canonicalize_name(wanted.name)), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            requires = distribution(wanted.name).requires or []
        except ModuleNotFoundError:
            continue
        for text in requires:
            part = Requirement(text)
            extras = wanted.extras or {""}
            if part.marker is None or any(part.marker.evaluate({**_ENVIRONMENT, "extra": extra}) for extra in extras):
                todo.append(part)
    return {name for name, _ in seen}


def requirements() -> str:
    """The file."""
    known = blocks((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    return _HEADER + "".join(known[name] for name in sorted(needed(ROOT / "pyproject.toml")) if name in known)


if __name__ == "__main__":
    print(requirements(), end="")
