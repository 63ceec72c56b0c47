"""The page on operating the platform: its table of settings is that of the code, and its commands are there."""

import re
from pathlib import Path

import typer
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from platform_api.cli import platform_app
from platform_api.operations.doctor import examine
from platform_api.settings import PREFIX, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "platform-operations.md").read_text(encoding="utf-8")
_START, _END = "compared with platform_api/settings.py by a test -->\n", "\n<!-- end of settings -->"


def table() -> str:
    """The settings as the page has to list them."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if field.default is PydanticUndefined:
            default = "none: must be set"
        else:
            empty = field.default is None or isinstance(field.default, SecretStr)
            default = "empty" if empty else f"`{field.default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_the_table_of_settings_is_that_of_the_code() -> None:
    written = PAGE[PAGE.index(_START) + len(_START) : PAGE.index(_END)]
    assert written == table(), f"put this into docs/platform-operations.md:\n{table()}"
    assert all(field.description for field in Settings.model_fields.values())


def test_every_command_is_on_the_page_and_every_command_on_the_page_is_one() -> None:
    group = typer.main.get_command(platform_app)
    known = set(group.commands) - {"model"} | {f"model {name}" for name in group.commands["model"].commands}  # type: ignore[attr-defined]
    named = {
        " ".join(words.split())
        for words in re.findall(r"zhiyin platform ((?:model )?[a-z]+)", PAGE) + re.findall(r"`(model [a-z]+)", PAGE)
    }
    assert named - {"model"} == known


def test_every_check_of_the_doctor_is_explained(tmp_path: Path) -> None:
    source = Path(examine.__code__.co_filename).read_text(encoding="utf-8")
    checks = set(re.findall(r'_(?:ok|warn|fail)\(\s*"([a-z ]+)"', source))
    assert len(checks) >= 15
    explained = PAGE[PAGE.index("## When the doctor complains") :]
    cells = ", ".join(re.findall(r"^\| ([^|]+) \|", explained, re.MULTILINE))
    assert {check for check in checks if check not in cells} == set()
