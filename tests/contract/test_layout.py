"""The house rules that neither ruff nor import-linter can read."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
MODULES = sorted(path for path in APP.rglob("*.py"))
PURE = [path for path in MODULES if path.relative_to(APP).parts[0] in {"odata", "policy", "schema"}]

UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))
EXTRAS = {"azure", "asyncpg", "redis", "opentelemetry.sdk", "opentelemetry.exporter", "trustme"}
"""What an installation without extras does not have. FastAPI brings OpenTelemetry's bare API."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=named)
def test_a_package_holds_a_docstring_and_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "say which question the package answers"
    assert len(tree.body) == 1, f"line {tree.body[1].lineno}: move it into a module"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_named_after_what_it_holds_and_opens_with_its_question(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "manager", "base", "common", "misc"}
    assert ast.get_docstring(ast.parse(path.read_text())), "open with a line or two"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_finished(path: Path) -> None:
    assert not UNFINISHED.search(path.read_text())


@pytest.mark.parametrize("path", PURE, ids=named)
def test_a_pure_module_reads_no_clock_and_opens_no_file(path: Path) -> None:
    """import-linter sees modules; `datetime.now` and `open` come without a module of their own."""
    forbidden = {"now", "utcnow", "today", "open", "read_text", "read_bytes", "print", "input"}
    calls = [
        f"line {node.lineno}: {name}()"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and (name := _last_name(node.func)) in forbidden
    ]
    assert not calls, "pass the value in as an argument"


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_unit_tests_mirror_the_packages() -> None:
    packages = {path.name for path in APP.iterdir() if (path / "__init__.py").exists()}
    folders = {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} <= packages


IMPORT_ALL = """
import importlib, json, pkgutil, sys

deeds = []

def watch(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & 3
    if writes or event.startswith(("socket.", "subprocess.", "os.system", "_thread.start")):
        frame = sys._getframe(1)
        while frame and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        # urllib3 tries an IPv6 socket when it is imported; only our own modules are judged.
        if frame and frame.f_globals["__name__"].startswith("app."):
            deeds.append(f"{frame.f_globals['__name__']}: {event}")

import app
names = [module.name for module in pkgutil.walk_packages(app.__path__, "app.")]
left_out = tuple(sys.argv[1:])
names = [n for n in names if not n.startswith(left_out) and not n.endswith("__main__")]
sys.dont_write_bytecode = True
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
print(json.dumps({"deeds": deeds, "loaded": sorted(sys.modules)}))
"""


def _import_all(*leave_out: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *leave_out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_importing_a_module_opens_starts_and_connects_nothing() -> None:
    assert _import_all()["deeds"] == []


def test_the_broker_imports_without_its_extras() -> None:
    """An extra is imported where it is configured, so the rest neither needs nor pays for it."""
    loaded = _import_all("app.sandbox", "app.demo")["loaded"]
    assert EXTRAS & set(loaded) == set()


# --------------------------------------------------------------- requirements

REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", REQUIREMENTS, ids=named)
def test_requirements_name_versions_and_hashes_but_no_host_and_no_path(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"://|^-|^/|@ ", text, re.MULTILINE)
    for block in re.split(r"\n(?=\S)", text.partition("make lock\n")[2].strip()):
        assert re.match(r"[a-z0-9.\-\[\]]+==\S+", block), block
        assert "--hash=sha256:" in block, block


def test_what_runs_is_what_was_tested() -> None:
    assert _pins("runtime") <= _pins("dev")


def _pins(name: str) -> set[str]:
    return set(re.findall(r"(?m)^\S+==\S+", (ROOT / f"requirements/{name}.txt").read_text()))


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_each_dependency_is_locked() -> None:
    wanted = {_plain(line) for line in _asked_for()}
    locked = {_plain(pin) for file in REQUIREMENTS for pin in _pins(file.stem)}
    assert wanted <= locked, "run: make lock"


def test_each_dependency_has_its_reason() -> None:
    table = (ROOT / "docs/dependencies.md").read_text()
    explained = {_plain(name) for name in re.findall(r"(?m)^\| `([^`]+)`", table)}
    assert explained == {_plain(line) for line in _asked_for()}


def _asked_for() -> list[str]:
    project = _project()
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    lists = [project["project"]["dependencies"], *extras, *groups]
    return [line for lines in lists for line in lines]


def _plain(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")
