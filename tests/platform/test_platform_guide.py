"""The guide's walk, command by command, against a real service and a real provider."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.platform_on_loopback import running_platform

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "platform-api.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[str]:
    return BLOCK.findall(GUIDE.read_text(encoding="utf-8"))


def expected(script: str) -> list[str]:
    return [line.removeprefix("#> ") for line in script.splitlines() if line.startswith("#> ")]


def test_the_walk_is_not_empty() -> None:
    assert len(blocks()) >= 8
    assert sum(len(expected(block)) for block in blocks()) >= 20


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("bash") and shutil.which("python3")),
    reason="the walk needs curl, bash and python3",
)
def test_the_guides_walk_prints_what_the_guide_says(ready_url: str, tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks())
    with running_platform(ready_url, tmp_path) as platform:
        environment = {
            "PATH": "/usr/bin:/bin",
            "PLATFORM": platform.url,
            "SANDBOX": platform.sandbox_url,
            "OPERATOR": platform.operator,
            "OPERATOR_PASSWORD": platform.password,
        }
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines() == expected("\n".join(blocks()))
