"""From BROKER_CONFIG to a whole, consistent configuration, or all the reasons why not."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets as randomness
from typing import TYPE_CHECKING, Any, Final

from app.config.consistency import Consistency
from app.config.documents import Entry, Node, parse_document
from app.config.loaded import Loaded
from app.config.model import (
    Application,
    Caller,
    Configuration,
    Environment,
    FileReference,
    Issuer,
    KeyVaultReference,
    SchemaFile,
)
from app.config.places import validate, written
from app.config.problems import ConfigurationError, Problem, nearest
from app.config.references import read_secrets
from app.config.secrets import Reference, Secrets
from app.config.words import Name, Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pydantic import SecretBytes

    from app.config.places import Path as Place
    from app.config.secrets import VaultReader

SECTIONS: Final[Mapping[str, Any]] = {
    "applications": Application,
    "environments": Environment,
    "issuers": Issuer,
    "callers": Caller,
}

_VERSION_KEY: Final = randomness.token_bytes(32)
"""Keys the part of the version that tells secrets apart; see `Loaded`."""


def load(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    vault: VaultReader | None = None,
    offline: bool = False,
    may_stay_unread: Callable[[KeyVaultReference], bool] = lambda _: False,
) -> Loaded:
    """Read a YAML file, or a folder's `*.yaml`, and the secrets that it refers to.

    `offline` leaves secrets and CA files alone: for a check where they are not there, in CI.
    A secret of a vault that cannot be had is no problem where it `may_stay_unread`: whoever
    uses it asks the vault again, and an outage of a vault need not become one of the broker.
    Blocks on files and vaults. Raises `ConfigurationError` with every problem found.
    """
    problems: list[Problem] = []
    contents = _read_yaml(path, problems)
    root = _merge(contents, problems)
    configuration = _configuration(root, problems)
    if configuration is None:
        raise ConfigurationError(problems)

    secrets: dict[Reference, SecretBytes] = {}
    unread: tuple[str, ...] = ()
    if not offline:
        found = read_secrets(
            configuration,
            environ=os.environ if environ is None else environ,
            vault=vault,
            may_stay_unread=may_stay_unread,
        )
        secrets, unread = found.secrets, found.unread
        problems += [root.problem(at, f"{written(at)}: {said}") for at, said in found.problems]
    attached = dict(_attached(configuration, root, offline=offline, problems=problems))
    if problems:
        raise ConfigurationError(problems)

    public = hashlib.sha256()
    for file, content in sorted([*contents.items(), *attached.items()]):
        public.update(hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).digest())
        public.update(hashlib.sha256(content).digest())
    private = hmac.new(_VERSION_KEY, digestmod="sha256")
    for reference, secret in secrets.items():
        private.update(hashlib.sha256(repr(reference).encode()).digest())
        private.update(hashlib.sha256(secret.get_secret_value()).digest())
    secret_files = [r.file for r in secrets if isinstance(r, FileReference)]
    return Loaded(
        configuration=configuration,
        version=f"{public.hexdigest()[:16]}-{private.hexdigest()[:8]}",
        files=tuple(dict.fromkeys([*contents, *attached, *secret_files])),
        secrets=Secrets(secrets),
        documents=tuple(contents),
        unread=unread,
    )


def problems_at(loaded: Loaded, findings: Iterable[tuple[Place, str]]) -> tuple[Problem, ...]:
    """What others find wrong with a loaded configuration, with file and line.

    Lines are not kept for as long as a configuration counts, which would cost more than the
    configuration: the files are read once more, and one that has changed since may have moved.
    """
    found = tuple(findings)
    if not found or not loaded.documents:
        return ()
    contents = {file: file.read_bytes() for file in loaded.documents if file.is_file()}
    root = _merge(contents, []) if contents else Node(loaded.documents[0], 1, {})
    return tuple(root.problem(path, f"{written(path)}: {message}") for path, message in found)


def yaml_files(path: Path) -> list[Path]:
    """The files that make up the configuration. Raises `OSError` where there is no such path."""
    if not path.is_dir():
        path.stat()
        return [path]
    # Kubernetes mounts a ConfigMap as links (broker.yaml -> ..data/broker.yaml, ..data -> a
    # folder named by time). Only this level is read, so the folders behind are not read twice;
    # two links to one file are one file.
    found: dict[Path, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix == ".yaml" and not file.name.startswith(".") and file.is_file():
            found.setdefault(file.resolve(), file)
    return list(found.values())


# -------------------------------------------------------------------------------- reading


def _read_yaml(path: Path, problems: list[Problem]) -> dict[Path, bytes]:
    path = path.absolute()
    try:
        files = yaml_files(path)
    except OSError as error:
        message = f"cannot be read: {error.strerror}; BROKER_CONFIG names a file or a folder"
        raise ConfigurationError([Problem(path, None, message)]) from error
    if not files:
        raise ConfigurationError([Problem(path, None, "holds no *.yaml")])
    contents = {}
    for file in files:
        try:
            contents[file] = file.read_bytes()
        except OSError as error:
            problems.append(Problem(file, None, f"cannot be read: {error.strerror}"))
    if not contents:
        raise ConfigurationError(problems)
    return contents


def _merge(contents: Mapping[Path, bytes], problems: list[Problem]) -> Node:
    """One mapping out of all files; each name of a section stands in one of them."""
    merged: dict[str, Entry] = {}
    for file, content in contents.items():
        try:
            document = parse_document(content, file)
        except ConfigurationError as error:
            problems += error.problems
            continue
        for key, entry in document.content.items():
            if key == "public_url":
                _enter(merged, key, entry, problems, path=(key,))
            elif key in SECTIONS:
                _merge_section(merged, key, entry, problems)
            else:
                known = ["public_url", *SECTIONS]
                message = f"unknown key '{written((key,))}'{nearest(key, known)}"
                problems.append(Problem(file, entry.line, message))
    return Node(next(iter(contents)), 1, merged)


def _merge_section(
    merged: dict[str, Entry], section: str, entry: Entry, problems: list[Problem]
) -> None:
    names = entry.value.content
    if names is None:  # `issuers:` with nothing behind it
        names = {}
    if not isinstance(names, dict):
        problems.append(
            Problem(entry.value.file, entry.line, f"{section}: must be a mapping of names")
        )
        return
    if section not in merged:
        merged[section] = Entry(entry.line, Node(entry.value.file, entry.line, {}))
    for name, value in names.items():
        _enter(merged[section].value.content, name, value, problems, path=(section, name))


def _enter(
    entries: dict[str, Entry],
    name: str,
    entry: Entry,
    problems: list[Problem],
    *,
    path: tuple[str, ...],
) -> None:
    if (first := entries.get(name)) is not None:
        message = (
            f"{written(path)} is defined twice: here and in {first.value.file} line {first.line}"
        )
        problems.append(Problem(entry.value.file, entry.line, message))
        return
    entries[name] = entry


def _configuration(root: Node, problems: list[Problem]) -> Configuration | None:
    """Each entry by itself, then all together, so that one mistake does not hide the next."""
    # After a file that could not be read, everything that it defines would be reported missing.
    all_names_known = not problems
    public_url = None
    if "public_url" in root.content:
        public_url = validate(Url, root, ("public_url",), problems)
    elif all_names_known:
        problems.append(Problem(root.file, None, "'public_url' is missing"))
    right: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for section, form in SECTIONS.items():
        if section not in root.content:
            continue
        validate(dict[Name, Any], root, (section,), problems)
        for name in root.content[section].value.content:
            value = validate(form, root, (section, name), problems)
            if value is not None:
                right[section][name] = value
    if all_names_known:
        problems += Consistency(root, public_url=public_url, **right).problems()
    if problems or public_url is None:
        return None
    return Configuration(public_url=public_url, **right)


# ------------------------------------------------------------------ what it refers to


def _attached(
    configuration: Configuration, root: Node, *, offline: bool, problems: list[Problem]
) -> Iterator[tuple[Path, bytes]]:
    """Pinned schemas, and the CAs of this machine: a change of one is a change of configuration."""
    named: list[tuple[Place, Path | None]] = []
    for name, environment in configuration.environments.items():
        if isinstance(environment.schema_, SchemaFile):
            named.append((("environments", name, "schema", "file"), environment.schema_.file))
    if not offline:
        sections = (
            ("applications", configuration.applications),
            ("environments", configuration.environments),
            ("issuers", configuration.issuers),
        )
        for section, entries in sections:
            named += [((section, name, "ca_file"), e.ca_file) for name, e in entries.items()]
    for path, file in named:
        if file is None:
            continue
        try:
            yield file, file.read_bytes()
        except OSError as error:
            message = f"{written(path)}: the file {file} cannot be read: {error.strerror}"
            problems.append(root.problem(path, message))
