"""docs/doctor.md lists every step, and explains every code in the program's own words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.cli.doctoring import EXIT_CODES
from app.dataverse import remedies as dataverse
from app.doctor.finding import STEPS, Level
from app.tokens import remedies as entra

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading, its head left out."""
    text = PAGE[PAGE.index(heading) :].replace("\\<", "<")
    table = text[text.index("\n|") : text.index("\n\n", text.index("\n|"))].strip()
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_step_is_explained_in_the_order_of_the_walk() -> None:
    assert [row[0] for row in rows("## What each line means")] == list(STEPS)


def test_every_level_is_explained_with_its_exit_code() -> None:
    told = {row[0]: int(row[2]) for row in rows("# The doctor")}
    assert told == {level.value: int(EXIT_CODES[level]) for level in Level}


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        (
            "## Entra's codes",
            {f"AADSTS{c}": (r.meaning, r.remedy) for c, r in entra.REMEDIES.items()},
        ),
        ("## Dataverse's codes", {c: tuple(r) for c, r in dataverse.REMEDIES.items()}),
    ],
)
def test_every_code_is_explained_in_the_same_words(
    heading: str, known: dict[str, tuple[str, str]]
) -> None:
    told = {row[0]: (row[1], row[2]) for row in rows(heading)}
    assert told == known


def test_the_page_names_no_step_that_there_is_not() -> None:
    shown = set(re.findall(r'"step": "([^"]+)"', PAGE))
    assert shown <= set(STEPS)
