"""How this process runs: environment variables with the prefix BROKER_."""

from __future__ import annotations

from datetime import timedelta  # noqa: TC003 - pydantic needs it at run time
from ipaddress import IPv4Network, IPv6Network  # noqa: TC003
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class Settings(BaseSettings):
    """The settings of one process. `docs/settings.md` lists them; a test compares."""

    model_config = SettingsConfigDict(env_prefix="BROKER_", extra="ignore", frozen=True)

    config: Path = Path("broker.yaml")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    drain_s: Annotated[int, Field(ge=0, le=600)] = 0
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    state_dir: Path = Path("state")
    audit_url: SecretStr = SecretStr("sqlite:///./audit.db")
    audit_retention: timedelta | None = None
    audit_anchor_file: Path | None = None
    audit_stdout: bool = False
    audit_webhook_url: SecretStr | None = None
    signing_key_file: Path | None = None
    redis_url: SecretStr | None = None
    trusted_proxies: Annotated[
        tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split_commas)
    ] = ()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
