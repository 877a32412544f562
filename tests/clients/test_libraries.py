"""What libraries do with the broker's answers beyond the first good one."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.conftest import Served

URL = "https://broker.internal.example"

MSAL = f"""
import os, sys, msal
name = os.environ.get("NAME", "invoice-loader")
app = msal.ConfidentialClientApplication(
    name, client_credential=os.environ.get("SECRET") or os.environ["BROKER_KEY"],
    authority="{URL}/8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9012", instance_discovery=False,
)
"""


def program(head: str, body: str) -> str:
    return head + textwrap.dedent(body)


def token_records(served: Served) -> int:
    return sum(r.action == "token" for r in served.outcomes())


def test_msal_keeps_a_broker_token_and_asks_once(served: Served) -> None:
    before = token_records(served)
    code = program(
        MSAL,
        f"""
        for _ in range(3):
            result = app.acquire_token_for_client(["{URL}/environments/contoso/.default"])
        print(result["token_source"])
        """,
    )
    assert served.python(code) == "cache"
    assert token_records(served) == before + 1


def test_msal_gets_dataverses_own_token_where_that_is_granted(served: Served) -> None:
    code = program(
        MSAL,
        f"""
        import base64, json
        result = app.acquire_token_for_client(["{served.sandbox.environment_url}/.default"])
        body = result["access_token"].split(".")[1]
        print(json.loads(base64.urlsafe_b64decode(body + "==="))["aud"].rstrip("/"))
        """,
    )
    key = served.broker.keys["legacy-job"]
    assert served.python(code, NAME="legacy-job", SECRET=key) == served.sandbox.environment_url


@pytest.mark.parametrize(
    ("secret", "resource", "error"),
    [
        ("dvb_wrong_" + "0" * 64, f"{URL}/environments/contoso", "invalid_client"),
        ("", "https://evil.example", "invalid_target"),
        ("", "{environment}", "unauthorized_client"),
    ],
    ids=["a-wrong-secret", "no-target-of-ours", "a-raw-token-that-is-not-granted"],
)
def test_msal_reads_a_refusal(served: Served, secret: str, resource: str, error: str) -> None:
    resource = resource.format(environment=served.sandbox.environment_url)
    code = program(
        MSAL,
        f"""
        result = app.acquire_token_for_client(["{resource}/.default"])
        print(result["error"], bool(result["error_description"]), result["correlation_id"] != "")
        """,
    )
    assert served.python(code, SECRET=secret) == f"{error} True True"


def test_msal_asks_the_broker_whether_it_knows_its_own_authority(served: Served) -> None:
    """Instance discovery left on, and pointed here, as for a private cloud."""
    code = program(
        MSAL,
        f"""
        import json, os, urllib.request, ssl
        host = "{URL}".removeprefix("https://")
        url = (
            f"{URL}/common/discovery/instance?api-version=1.1&authorization_endpoint="
            f"https://{{host}}/common-tenant/oauth2/v2.0/authorize"
        )
        document = json.load(urllib.request.urlopen(url))
        print(document["tenant_discovery_endpoint"])
        """,
    )
    expected = f"{served.broker.url}/common-tenant/v2.0/.well-known/openid-configuration"
    assert served.python(code) == expected


AZURE = """
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential
credential = ManagedIdentityCredential()
"""


def test_azure_identity_in_python_keeps_its_token(served: Served) -> None:
    before = token_records(served)
    code = program(
        AZURE,
        f"""
        import time
        tokens = [credential.get_token("{URL}/environments/contoso/.default") for _ in range(3)]
        print(len({{t.token for t in tokens}}), 800 < tokens[0].expires_on - time.time() <= 900)
        """,
    )
    assert served.python(code) == "1 True"
    assert token_records(served) == before + 1


def test_azure_identity_in_python_says_why_it_was_refused(served: Served) -> None:
    code = program(
        AZURE,
        """
        try:
            credential.get_token("https://evil.example/.default")
        except (ClientAuthenticationError, CredentialUnavailableError) as error:
            print(error.message)
        """,
    )
    assert "resource not granted" in served.python(code)


def test_azure_identity_with_a_client_id_of_a_host_still_works(served: Served) -> None:
    code = program(
        AZURE,
        f"""
        chosen = ManagedIdentityCredential(client_id="11111111-1111-1111-1111-111111111111")
        print(bool(chosen.get_token("{URL}/.default").token))
        """,
    )
    assert served.python(code) == "True"


def test_azure_identity_in_node_keeps_its_token(served: Served, node: Path) -> None:
    before = token_records(served)
    code = f"""
        import {{ ManagedIdentityCredential }} from '@azure/identity'
        const credential = new ManagedIdentityCredential()
        const scope = '{URL}/environments/contoso/.default'
        const first = await credential.getToken(scope)
        const second = await credential.getToken(scope)
        const left = (first.expiresOnTimestamp - Date.now()) / 1000
        console.log(first.token === second.token, left > 800 && left <= 900)
    """
    assert served.node(node, code) == "true true"
    assert token_records(served) == before + 1


def test_azure_identity_in_node_says_why_it_was_refused(served: Served, node: Path) -> None:
    code = """
        import { ManagedIdentityCredential } from '@azure/identity'
        try {
          await new ManagedIdentityCredential().getToken('https://evil.example/.default')
        } catch (error) {
          console.log(error.message)
        }
    """
    assert "resource not granted" in served.node(node, code)


@pytest.mark.parametrize("way", ["ClientSecretPost", "ClientSecretBasic"])
def test_openid_client_proves_itself_in_either_way(served: Served, node: Path, way: str) -> None:
    code = f"""
        import * as client from 'openid-client'
        const key = process.env.BROKER_KEY
        const config = await client.discovery(
          new URL('{URL}'), 'invoice-loader', key, client.{way}(key),
        )
        const tokens = await client.clientCredentialsGrant(config, {{
          resource: '{URL}/environments/contoso',
        }})
        console.log(tokens.token_type, tokens.expires_in > 800)
    """
    assert served.node(node, code) == "bearer true"


def test_openid_client_reads_a_refusal(served: Served, node: Path) -> None:
    code = f"""
        import * as client from 'openid-client'
        const config = await client.discovery(new URL('{URL}'), 'invoice-loader', 'wrong')
        try {{
          await client.clientCredentialsGrant(config, {{ scope: '{URL}/.default' }})
        }} catch (error) {{
          console.log(error.error, error.status)
        }}
    """
    assert served.node(node, code) == "invalid_client 401"


def test_a_broker_token_verifies_against_the_published_keys(served: Served, node: Path) -> None:
    """By jose, which openid-client brings along."""
    code = f"""
        import * as client from 'openid-client'
        import {{ createRemoteJWKSet, jwtVerify }} from 'jose'
        const config = await client.discovery(
          new URL('{URL}'), 'invoice-loader', process.env.BROKER_KEY,
        )
        const tokens = await client.clientCredentialsGrant(config, {{ scope: '{URL}/.default' }})
        const {{ issuer, jwks_uri }} = config.serverMetadata()
        const {{ payload, protectedHeader }} = await jwtVerify(
          tokens.access_token, createRemoteJWKSet(new URL(jwks_uri)),
          {{ issuer, audience: '{URL}', typ: 'at+jwt', algorithms: ['EdDSA'] }},
        )
        console.log(payload.sub, protectedHeader.alg)
    """
    assert served.node(node, code) == "invoice-loader EdDSA"


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
def test_authlib_proves_itself_in_either_way_after_discovery(served: Served, method: str) -> None:
    code = textwrap.dedent(f"""
        import os, requests
        from authlib.integrations.requests_client import OAuth2Session
        from authlib.oidc.discovery import OpenIDProviderMetadata
        document = requests.get("{URL}/.well-known/openid-configuration").json()
        OpenIDProviderMetadata(document).validate()
        session = OAuth2Session(
            "invoice-loader", os.environ["BROKER_KEY"], scope="{URL}/.default",
            token_endpoint_auth_method="{method}",
        )
        print(session.fetch_token(document["token_endpoint"])["token_type"])
    """)
    assert served.python(code) == "Bearer"


def test_requests_oauthlib_sends_its_secret_in_the_body_too(served: Served) -> None:
    code = textwrap.dedent(f"""
        import os
        from oauthlib.oauth2 import BackendApplicationClient
        from requests_oauthlib import OAuth2Session
        client = BackendApplicationClient("invoice-loader", scope=["{URL}/.default"])
        token = OAuth2Session(client=client).fetch_token(
            "{URL}/oauth2/v2.0/token", client_secret=os.environ["BROKER_KEY"],
            include_client_id=True, auth=False,
        )
        print(token["token_type"])
    """)
    assert served.python(code) == "Bearer"
