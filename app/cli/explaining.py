"""`token-broker policy explain`: what one request would do, and whether its caller may."""

from __future__ import annotations

import asyncio
import json
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.offline import offline_standing
from app.cli.outcome import CouldNot, ExitCode, say_json
from app.config.cautions import FAR_REACHING
from app.config.describe import default_environment
from app.config.problems import nearest
from app.identity.caller import Caller, IdentityRef
from app.path.judging import Judge
from app.web.explaining import Explainer
from app.web.views import ExplainRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from app.cli.checking import SchemaFiles
    from app.path.standing import Standing
    from app.path.world import World
    from app.web.views import AccessView, Explanation


@dataclass(frozen=True, slots=True)
class _Standing:
    """As much of a `World` as explaining asks for."""

    standing: Standing


def explain(
    *,
    caller: str,
    method: str,
    url: str,
    headers: Sequence[str],
    body: str | None,
    config: Path,
    schemas: SchemaFiles,
    as_json: bool,
) -> ExitCode:
    """Raises `CouldNot` for a caller that there is not, or a header that is none."""
    standing = offline_standing(config, schemas)
    known = standing.configuration.callers
    if caller not in known:
        raise CouldNot(
            "no-such-caller", f"--caller {caller}: no such caller{nearest(caller, known)}"
        )
    sent = dict(_header(text) for text in headers)
    if body is not None and all(name.lower() != "content-type" for name in sent):
        sent["Content-Type"] = "application/json"
    request = ExplainRequest(
        method=method.upper(), url=_address(standing, caller, url), headers=sent, body=body
    )
    asker = Caller(caller, IdentityRef("api_key", "-"), known[caller])
    explainer = Explainer(cast("World", _Standing(standing)), Judge(lambda: ()))
    explanation = asyncio.run(explainer.explain(asker, request))
    warnings = [*explanation.warnings, *_reach(request.url)]
    if as_json:
        say_json({**explanation.model_dump(mode="json"), "warnings": warnings})
    else:
        _show(request, caller, explanation, warnings)
    return ExitCode.DONE if explanation.decision == "allowed" else ExitCode.NO


def body_from(text: str | None) -> str | None:
    """`@FILE` is the file's content, as curl has it."""
    if text is None or not text.startswith("@"):
        return text
    with open(text[1:], encoding="utf-8", newline="") as file:  # noqa: PTH123 - not translated
        return file.read()


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CouldNot("bad-header", "--header: must be 'Name: value'")
    return name.strip(), value.strip()


def _address(standing: Standing, caller: str, url: str) -> str:
    """The broker's own address of what was named in any of the ways that people name it."""
    text = quote(url, safe=string.punctuation)
    configuration = standing.configuration
    for known, environment in configuration.environments.items():
        if text.startswith(environment.url + "/"):
            return f"/environments/{known}{text.removeprefix(environment.url)}"
    if text.startswith(("/", configuration.public_url + "/")):
        return text
    if "://" in text:
        raise CouldNot("bad-url", f"{url}: neither the broker's nor an environment's address")
    config = configuration.callers[caller]
    name = default_environment(config.default_environment, config.grants)
    if name is None:
        raise CouldNot(
            "bad-url", f"{caller} has no default environment: write /environments/NAME/api/data/…"
        )
    version = configuration.environments[name].api_versions[0]
    return f"/environments/{name}/api/data/{version}/{text}"


def _reach(url: str) -> Iterator[str]:
    """What a function or action touches beyond the tables that are judged."""
    for segment in url.partition("?")[0].split("/"):
        name = segment.partition("(")[0].rpartition(".")[2]
        if name in FAR_REACHING:
            yield f"{name} {FAR_REACHING[name]}: table rules do not bound it"


# ---------------------------------------------------------------------------------- shown


def _show(
    request: ExplainRequest, caller: str, explanation: Explanation, warnings: Sequence[str]
) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble((request.method, "bold magenta"), f" {unquote(request.url)}"))
    colour = "green" if explanation.decision == "allowed" else "red"
    line = Text.assemble((explanation.decision, f"bold {colour}"), f" for {caller}")
    if explanation.application is not None:
        line.append(f", as {explanation.application} in {explanation.environment}")
    console.print(line)
    if explanation.detail:
        console.print(Text(f"  {explanation.detail} ({explanation.code})"))
    if explanation.accesses:
        console.print(_accesses(explanation))
    for text in warnings:
        console.print(Text.assemble(("warning  ", "bold yellow"), text))
    sent = explanation.would_send
    if sent is not None:
        console.print(Text("\nDataverse would get", style="bold"))
        console.print(Text(f"  {sent.method} {unquote(sent.target)}"))
        for name, value in sent.headers.items():
            console.print(Text(f"  {name}: {value}", style="dim"))
        if sent.body:
            console.print(Text(f"\n  {_indented(sent.body)}"))


def _accesses(explanation: Explanation) -> Table:
    missing = {(access.table, access.operation) for access in explanation.missing}
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("", "operation", "table", "columns"):
        table.add_column(name, overflow="fold")
    for access in explanation.accesses:
        granted = (access.table, access.operation) not in missing
        mark = Text("✓", style="green") if granted else Text("✗", style="red")
        table.add_row(mark, access.operation, access.table, _columns(access))
    for access in explanation.missing:
        table.add_row(
            Text("missing", style="red"), access.operation, access.table, _columns(access)
        )
    return table


def _columns(access: AccessView) -> str:
    return "all of them" if access.columns == "ALL" else ", ".join(access.columns) or "none"


def _indented(body: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    return text.replace("\n", "\n  ")
