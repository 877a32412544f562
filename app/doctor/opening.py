"""The configuration as the broker would load it; where that fails, as much of it as can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.cautions import cautions
from app.config.loading import load, problems_at
from app.config.problems import ConfigurationError
from app.errors import Misconfigured
from app.path.standing import GrantsInvalid, stand
from app.path.world import read_schema_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path

    from app.config.loaded import Loaded
    from app.config.model import Configuration
    from app.config.problems import Problem
    from app.config.secrets import VaultReader
    from app.doctor.finding import About, Finding
    from app.schema.model import Schema

REMEDY = "Correct it; token-broker check says the same before a merge."


@dataclass(frozen=True, slots=True)
class Opened:
    """`configuration` is None where not even its form can be read."""

    findings: tuple[Finding, ...]
    configuration: Configuration | None


def open_configuration(
    about: About, path: Path, *, environ: Mapping[str, str], vault: VaultReader | None, today: date
) -> Opened:
    """Blocks on files and vaults."""
    problems: tuple[Problem, ...] = ()
    try:
        # As at the start: what a vault does not give yet is a finding of the credential's.
        loaded = load(path, environ=environ, vault=vault, may_stay_unread=lambda _: True)
    except ConfigurationError as error:
        problems = error.problems
        try:
            loaded = load(path, offline=True)
        except ConfigurationError:
            return Opened(tuple(_failed(about, problem) for problem in problems), None)
    problems += _contradictions(loaded)
    if problems:
        findings = tuple(_failed(about, problem) for problem in problems)
        return Opened(findings, loaded.configuration)
    configuration = loaded.configuration
    text = (
        f"{path} loads: {len(configuration.callers)} callers,"
        f" {len(configuration.environments)} environments,"
        f" {len(configuration.applications)} applications"
    )
    shared = tuple(
        about.advice("configuration", str(caution), code=caution.code)
        for caution in cautions(configuration, today=today)
        if caution.code == "application-shared"
    )
    return Opened((about.ok("configuration", text), *shared), configuration)


def _failed(about: About, problem: Problem) -> Finding:
    return about.failure("configuration", str(problem), REMEDY, code="configuration-invalid")


def _contradictions(loaded: Loaded) -> tuple[Problem, ...]:
    """What a pinned schema contradicts, and pinned schemas that cannot be read."""
    schemas: dict[str, Schema] = {}
    for name, environment in loaded.configuration.environments.items():
        if environment.schema_ == "live":
            continue
        try:
            schemas[name] = read_schema_file(environment.schema_.file)
        except Misconfigured as error:
            return problems_at(loaded, [(("environments", name, "schema"), error.detail)])
    try:
        stand(loaded, schemas)
    except GrantsInvalid as invalid:
        return problems_at(loaded, [(p.place, p.message) for p in invalid.problems])
    return ()
