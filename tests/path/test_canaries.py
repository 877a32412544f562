"""Law 5: what a caller can write into a request is found in no record, log, metric or error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.path.raw_http import Closed, request_bytes
from tests.path.reaching import until
from tests.path.staging import SECRETS, Served, serving
from tests.path.stand_ins import ROW_ID, says

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.path.stand_ins import StandInHost

ROOT = "/environments/prod/api/data/v9.2"
VALUE = "hunter2-in-a-value"
"""Stands for a value: nowhere, not even in the answer to its writer."""
NAME = "hunter2_in_a_name"
"""Stands where a name belongs: the caller is told which name is wrong, nobody else."""


@pytest.fixture(scope="module")
def served(host: StandInHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(host, tmp_path_factory.mktemp("canaries")) as made:
        yield made


def sent_anywhere(served: Served) -> Iterator[bytes]:
    """A request for each place that a caller can write to."""
    key = {caller: served.broker.bearer(caller) for caller in served.broker.keys}
    reading, writing, billing = key["reporting"], key["crm-writer"], key["billing-sync"]
    json = {"Content-Type": "application/json"}
    value, name = quote(VALUE), NAME
    for target in (
        f"accounts?$select=name&$filter=name eq '{VALUE}'",
        f"accounts?$select=name&$filter=creditlimit eq '{VALUE}'",
        f"accounts?$select=name&$filter=contains(name,'{VALUE}') and {NAME} eq 1",
        f"accounts?$select=name&$filter=name eq @p&@p='{VALUE}'",
        f"accounts?$select=name&$filter=name eq @{NAME}&@{NAME}='{VALUE}'",
        f"accounts?$select=name&$filter='{VALUE}",
        f"accounts?$select={NAME}",
        f"accounts?$orderby={NAME}",
        f"accounts?$expand={NAME}($select={NAME})",
        f"accounts?$apply=groupby(({NAME}))",
        f"accounts?$top={VALUE}",
        f"accounts?$select=name&$skiptoken={VALUE}",
        f"accounts?$select=name&$skiptoken={VALUE}&broker-seal={VALUE}",
        f"accounts?{NAME}={VALUE}",
        f"accounts?${NAME}={VALUE}",
        f"accounts?$search={VALUE}",
        f"accounts?savedQuery={VALUE}",
        f"accounts(accountnumber='{VALUE}')?$select=name",
        f"accounts({NAME}='{VALUE}')?$select=name",
        f"accounts({VALUE})?$select=name",
        f"accounts({ROW_ID})/{NAME}",
        f"{NAME}({ROW_ID})?$select={NAME}",
        f"{NAME}(p='{VALUE}')",
        f"accounts/Microsoft.Dynamics.CRM.{NAME}?$select=name",
        f"EntityDefinitions(LogicalName='{NAME}')",
        f"EntityDefinitions?$filter=LogicalName eq '{NAME}'",
        (
            f"accounts?fetchXml=<fetch><entity name='account'><attribute name='name'/><filter>"
            f"<condition attribute='name' operator='eq' value='{VALUE}'/></filter></entity></fetch>"
        ),
        (
            f"accounts?fetchXml=<fetch><entity name='account'><attribute name='{NAME}'/>"
            f"</entity></fetch>"
        ),
        f"accounts?fetchXml=<fetch {NAME}='{VALUE}'><{NAME}>{VALUE}</{NAME}>",
        f"accounts//{NAME}",
        f"accounts;{NAME}={VALUE}",
    ):
        path, mark, query = target.partition("?")
        encoded = f"{ROOT}/{quote(path, safe='/()=,;.$')}{mark}{quote(query, safe='=&$@(),')}"
        yield request_bytes("GET", encoded, reading)
    for address in (
        f"/environments/{name}/api/data/v9.2/accounts",
        f"/environments/prod/api/data/{name}/accounts",
        f"/{name}?{name}={value}",
        f"/audit/records?caller={value}&{name}={value}",
        f"/audit/records/{value}",
        f"/msi/token?resource={value}&api-version=2019-08-01",
        f"/{name}/v2.0/.well-known/openid-configuration",
        f"/environments/prod/api/data/v9.2/accounts?x={value * 3000}",
    ):
        yield request_bytes("GET", address, reading)
    for header in (
        "Accept", "Accept-Language", "Prefer", "If-None-Match", "OData-Version", "CallerObjectId",
        "MSCRMCallerID", "MSCRM.Other", f"MSCRM.{NAME}", "Broker-Application", "Cookie", "Referer",
        "User-Agent", "X-Forwarded-For", "traceparent", "tracestate", "x-ms-client-request-id",
        "X-API-Key", "Consistency", "Range", NAME, "X-Forwarded-Client-Cert", "Content-Encoding",
    ):  # fmt: skip
        yield request_bytes("GET", f"{ROOT}/accounts?$select=name", {**reading, header: VALUE})
    yield request_bytes(
        "GET", f"{ROOT}/accounts?$select=name", {**reading, "Prefer": f'{NAME}="{VALUE}"'}
    )
    for credential in (f"Bearer {VALUE}", f"Bearer dvb_{NAME}_{VALUE}", f"Basic {VALUE}", VALUE):
        yield request_bytes("GET", f"{ROOT}/accounts", {"Authorization": credential})
    for body in (
        f'{{"firstname":"{VALUE}"}}',
        f'{{"firstname":"{VALUE}","{NAME}":"{VALUE}"}}',
        f'{{"governmentid":"{VALUE}"}}',
        f'{{"firstname":"{VALUE}',
        f'{{"firstname":"{VALUE}","firstname":"{VALUE}"}}',
        f'{{"@odata.type":"#Microsoft.Dynamics.CRM.{NAME}","firstname":"{VALUE}"}}',
        f'{{"parentcustomerid_account@odata.bind":"/accounts({VALUE})"}}',
        f'{{"parentcustomerid_account@odata.bind":"https://{VALUE}/accounts({ROW_ID})"}}',
        f'{{"{NAME}@odata.bind":"/accounts({ROW_ID})"}}',
        f'["{VALUE}"]',
        f'"{VALUE}"',
        VALUE,
    ):
        content = body.encode()
        yield request_bytes("PATCH", f"{ROOT}/contacts({ROW_ID})", {**writing, **json}, content)
        yield request_bytes("POST", f"{ROOT}/invoices", {**billing, **json}, content)
        yield request_bytes("POST", f"{ROOT}/new_CloseProject", {**writing, **json}, content)
    yield request_bytes(
        "PATCH",
        f"{ROOT}/accounts({ROW_ID})/new_contractfile",
        {**key["file-writer"], "x-ms-file-name": VALUE, "Content-Type": VALUE},
        VALUE.encode(),
    )
    yield from batches(reading)
    yield from token_requests(served)
    explained = (
        f'{{"method":"{NAME}","url":"/environments/{NAME}/api/data/v9.2/accounts"}}',
        f'{{"method":"GET","url":"{ROOT}/accounts?$filter=name eq \'{VALUE}\'"}}',
        f'{{"method":"POST","url":"{ROOT}/accounts","headers":{{"{NAME}":"x"}},"body":"{VALUE}"}}',
        f'{{"{NAME}":"{VALUE}"}}',
    )
    for body in explained:
        yield request_bytes("POST", "/policy/explain", {**reading, **json}, body.encode())


def batches(credential: dict[str, str]) -> Iterator[bytes]:
    for inner in (
        f"GET accounts?$select=name&$filter=name%20eq%20'{VALUE}' HTTP/1.1\r\n{NAME}: {VALUE}\r\n",
        f"GET {NAME} HTTP/1.1\r\nPrefer: {NAME}={VALUE}\r\n",
        f"GET https://{VALUE}/api/data/v9.2/accounts HTTP/1.1\r\n",
        f"GET systemusers({VALUE}) HTTP/1.1\r\n",
        f"{NAME} accounts HTTP/1.1\r\n",
        f'POST accounts HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{"name":"{VALUE}"}}',
        f"{VALUE}",
    ):
        for boundary in ("batch_1", NAME):
            part = (
                f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: {VALUE}\r\n\r\n"
                f"{inner}\r\n\r\n--{boundary}--\r\n"
            )
            for text in (part, part.replace(f"Content-ID: {VALUE}\r\n", "")):
                kind = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
                yield request_bytes("POST", f"{ROOT}/$batch", {**credential, **kind}, text.encode())


def token_requests(served: Served) -> Iterator[bytes]:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (
        f"grant_type=client_credentials&client_id=token-app&client_secret={VALUE}&scope=x",
        f"grant_type=client_credentials&client_id={NAME}&client_secret={VALUE}&scope={VALUE}",
        f"grant_type={NAME}&client_assertion={VALUE}&client_assertion_type={VALUE}",
        (
            f"client_id=token-app&client_secret={served.broker.keys['token-app']}"
            f"&grant_type=client_credentials&scope=https://{VALUE}/.default"
        ),
        f"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={VALUE}",
        f"{NAME}={VALUE}",
    ):
        for address in ("/oauth2/v2.0/token", f"/{NAME}/oauth2/v2.0/token"):
            yield request_bytes("POST", address, form, body.encode())
    yield request_bytes(
        "POST",
        "/environments/prod/token",
        {**served.broker.bearer("token-app"), "Content-Type": "application/json"},
        f'{{"resource":"https://{VALUE}","{NAME}":1}}'.encode(),
    )
    yield request_bytes("GET", "/msi/token?resource=x&api-version=1", {"X-IDENTITY-HEADER": VALUE})


def test_what_a_caller_writes_is_found_nowhere(served: Served) -> None:
    answers: list[bytes] = []
    count = 0
    for sent in sent_anywhere(served):
        count += 1
        with served.broker.connect() as connection:
            connection.send(sent)
            try:
                answer = connection.answer()
            except Closed:
                continue
        assert answer.status != 500, (sent, answer.text)
        if answer.status >= 400:
            answers.append(answer.body + repr(answer.headers).encode())
    assert count >= 150
    # Dataverse may quote what it likes; it goes to the caller and nowhere else.
    served.prod.answer = lambda _: says(400, {"error": {"message": VALUE}}, {"REQ_ID": VALUE})
    quoted = served.broker.ask("GET", f"{ROOT}/accounts?$select=name", caller="reporting")
    assert VALUE in quoted.text
    issued = served.broker.ask("POST", "/environments/prod/token", caller="token-app").json()
    metrics = served.broker.ask("GET", "/metrics").body
    until(lambda: len(served.broker.records()) >= 150 or None)
    kept = b"".join(file.read_bytes() for file in served.broker.audit_file.parent.glob("audit.db*"))
    log = served.broker.log_file.read_bytes()
    assert kept
    assert log
    secrets = [*SECRETS.values(), *served.broker.keys.values(), issued["access_token"]]
    for place, found in (("audit", kept), ("log", log), ("metrics", metrics)):
        for canary in (VALUE, NAME, *secrets):
            assert canary.encode() not in found, (place, around(found, canary))
    for said in answers:
        for canary in (VALUE, *secrets):
            assert canary.encode() not in said, said


def around(found: bytes, canary: str) -> list[bytes]:
    pattern = b".{0,300}" + re.escape(canary.encode()) + b".{0,100}"
    return [m.group() for m in re.finditer(pattern, found, re.DOTALL)][:3]
