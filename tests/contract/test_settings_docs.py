"""docs/settings.md lists each setting with its default, and the code reads no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {f"BROKER_{name.upper()}": field for name, field in Settings.model_fields.items()}
ROW = re.compile(r"^\| `(BROKER_\w+)` \| (?:`([^`]+)`|—) \| (.+) \|$", re.MULTILINE)


def documented() -> dict[str, str | None]:
    text = (ROOT / "docs/settings.md").read_text()
    return {name: default or None for name, default, _meaning in ROW.findall(text)}


def test_the_page_lists_each_setting_with_its_default() -> None:
    assert documented() == {name: _shown(field.default) for name, field in SETTINGS.items()}


def _shown(default: Any) -> str | None:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return None if default is None or default == () else str(default)


def test_no_module_reads_a_setting_that_does_not_exist() -> None:
    mentioned = {
        name
        for path in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in re.findall(r"\bBROKER_[A-Z][A-Z_]*[A-Z]\b", node.value)
    }
    assert mentioned <= SETTINGS.keys()


def test_the_settings_never_show_a_password() -> None:
    settings = Settings.model_validate(
        {
            "audit_url": "postgresql://u:hunter2@db/audit",
            "audit_webhook_url": "https://u:hunter2@hooks/in",
            "redis_url": "rediss://:hunter2@cache",
        }
    )
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
