"""What clients look up before they ask for a token: metadata, keys, aliases of the host."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from app.sandbox.entra.tokens import issuer


def openid_configuration(*, public_url: str, tenant: str, tenant_id: str, v2: bool) -> Any:
    """`tenant` as it was asked for, an id or a domain: the addresses keep it, as Entra's do."""
    base = f"{public_url}/{tenant}"
    oauth2 = f"{base}/oauth2/v2.0" if v2 else f"{base}/oauth2"
    return {
        "token_endpoint": f"{oauth2}/token",
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "private_key_jwt",
            "client_secret_basic",
        ],
        "jwks_uri": f"{base}/discovery/v2.0/keys" if v2 else f"{base}/discovery/keys",
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer(public_url, tenant_id, version="2.0" if v2 else "1.0"),
        "request_uri_parameter_supported": False,
        "authorization_endpoint": f"{oauth2}/authorize",
        "device_authorization_endpoint": f"{oauth2}/devicecode",
        "http_logout_supported": True,
        "frontchannel_logout_supported": True,
        "end_session_endpoint": f"{oauth2}/logout",
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "ver"],
        "tenant_region_scope": "EU",
        "cloud_instance_name": urlsplit(public_url).netloc,
    }


def instance_discovery(*, public_url: str, tenant: str) -> Any:
    """Says that this host is an authority like the ones that a client knows by heart."""
    host = urlsplit(public_url).netloc
    return {
        "tenant_discovery_endpoint": f"{public_url}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }
