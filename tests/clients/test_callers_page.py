"""Every block of docs/callers.md does what the page says, with the library as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.conftest import CALLER

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.audit.record import Record
    from tests.clients.conftest import Served

PAGE = Path(__file__).resolve().parents[2] / "docs" / "callers.md"


def blocks(language: str) -> list[Any]:
    """The page's blocks in a language, each named by the last line of text before it."""
    text = PAGE.read_text("utf-8")
    found = re.finditer(rf"(?ms)^```{language}\n(.*?)^```", text)
    return [pytest.param(block[1], id=_name(text[: block.start()])) for block in found]


def _name(before: str) -> str:
    return re.sub(r"\W+", "-", before.strip().splitlines()[-1]).strip("-").lower()[:48]


@pytest.fixture
def token_file(served: Served, tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text(served.platform_token())
    return str(file)


def recorded(served: Served, before: int) -> list[Record]:
    """What a block did: everything allowed, and all of it as one caller."""
    records = served.outcomes()[before:]
    known = [r for r in records if r.caller is not None]
    assert known, "nobody came to the broker"
    assert {(r.caller, r.decision) for r in known} == {(CALLER, "allowed")}
    # Who was given a token came with it afterwards, and with no other.
    issued = {r.id for r in records if r.action == "token"}
    came_with = {r.identity.subject for r in known if r.action == "proxy" and r.identity}
    assert not issued or not came_with or came_with <= issued
    return records


@pytest.mark.parametrize("code", blocks("python"))
def test_a_block_in_python_works(served: Served, token_file: str, code: str) -> None:
    before = len(served.outcomes())
    assert served.python(code, BROKER_TOKEN_FILE=token_file)
    recorded(served, before)


@pytest.mark.parametrize("code", blocks("js"))
def test_a_block_in_javascript_works(served: Served, node: Path, code: str) -> None:
    before = len(served.outcomes())
    assert served.node(node, code)
    recorded(served, before)


@pytest.mark.parametrize("code", blocks("sh"))
def test_a_block_for_the_shell_works(
    served: Served, require_tool: Callable[[str], Path], token_file: str, code: str
) -> None:
    require_tool("curl")
    before = len(served.outcomes())
    output = served.run(["sh", "-eu"], code, BROKER_TOKEN_FILE=token_file)
    document = json.loads(output)
    assert document.get("caller") == CALLER or document["token_type"] == "Bearer"
    recorded(served, before)


def test_the_page_has_blocks_in_every_language_that_it_promises() -> None:
    assert {language: len(blocks(language)) for language in ("python", "js", "sh")} == {
        "python": 8,
        "js": 3,
        "sh": 3,
    }
