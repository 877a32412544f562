"""The way to an environment: its CAs, and the proxy that this process's variables name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from app.dataverse.client import UpstreamClient, tls_context
from app.dataverse.proxies import proxy_for
from app.errors import Misconfigured

if TYPE_CHECKING:
    from app.config import model


def connect(config: model.Environment) -> UpstreamClient:
    """Opens nothing yet. Raises `Misconfigured` for a CA file or a proxy that cannot be used."""
    url = config.url
    secure = url.startswith("https:")
    host, _, port = url.partition("://")[2].partition("/")[0].partition(":")
    try:
        tls = tls_context(config.ca_file) if secure else None
    except OSError as error:  # ssl.SSLError is one
        raise Misconfigured(
            "ca-file-invalid",
            f"{config.ca_file}: holds no PEM certificates: {error.strerror or error}",
        ) from error
    return UpstreamClient(
        url,
        tls=tls,
        proxy=proxy_for(host, int(port or 443), os.environ) if secure else None,
    )
