"""The broker loads a configuration whole, or names every mistake with its file and line."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest

from app.config.loading import load, problems_at
from app.config.model import CertificateCredential, FileReference, SchemaFile
from app.config.problems import ConfigurationError, Problem

DIGEST_A = "a" * 64
DIGEST_B = "b" * 64

GOOD = f"""\
public_url: https://broker.internal.example

applications:
  erp:
    tenant_id: 8b1f7a52-0000-0000-0000-000000000001
    client_id: 5c2e9d10-0000-0000-0000-000000000001
    credentials:
      - client_secret: {{env: ERP_SECRET}}
  admin:
    tenant_id: 8b1f7a52-0000-0000-0000-000000000001
    client_id: 5c2e9d10-0000-0000-0000-000000000002
    credentials:
      - client_secret: {{file: admin.secret}}

environments:
  contoso:
    url: https://contoso.crm4.dynamics.com
    administrator: admin

issuers:
  cluster: {{issuer: https://kubernetes.example, audience: broker}}

callers:
  loader:
    identities:
      - api_key: {{sha256: "{DIGEST_A}"}}
      - jwt: {{issuer: cluster, claims: {{sub: "system:serviceaccount:erp:loader"}}}}
    default_environment: contoso
    grants:
      - environment: contoso
        application: erp
        tables:
          accounts: {{operations: [read]}}
"""


def write(folder: Path, text: str = GOOD, name: str = "broker.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    (folder / "admin.secret").write_text("hunter2\n")
    return file


def problems(file: Path, **options: object) -> list[str]:
    """Without the folder, which differs from run to run."""
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={"ERP_SECRET": "swordfish"}, **options)  # type: ignore[arg-type]
    folder = file if file.is_dir() else file.parent
    return [str(problem).replace(f"{folder}{os.sep}", "") for problem in caught.value.problems]


def edited(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, old
    return GOOD.replace(old, new, 1)


def test_a_good_file_loads_with_its_secrets(tmp_path: Path) -> None:
    loaded = load(write(tmp_path), environ={"ERP_SECRET": "swordfish"})

    assert list(loaded.configuration.callers) == ["loader"]
    assert loaded.configuration.public_url == "https://broker.internal.example"
    admin = loaded.configuration.applications["admin"].credentials[0]
    reference = FileReference(file=tmp_path / "admin.secret")
    assert admin.model_dump()["client_secret"] == {"file": tmp_path / "admin.secret"}
    assert loaded.secrets.text(reference).get_secret_value() == "hunter2"
    assert loaded.files == (tmp_path / "broker.yaml", tmp_path / "admin.secret")


def test_the_error_carries_a_stable_code_and_all_places(tmp_path: Path) -> None:
    text = edited("audience: broker", "audiance: broker").replace("[read]", "[raed]")
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, text), environ={})

    assert caught.value.code == "configuration-invalid"
    assert [(p.file.name, p.line) for p in caught.value.problems] == [
        ("broker.yaml", 21),
        ("broker.yaml", 21),
        ("broker.yaml", 33),
    ]
    assert caught.value.detail.count("\n") == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "callers:",
            "calers:",
            "broker.yaml:23: unknown key 'calers'; did you mean 'callers'?",
            id="unknown-section",
        ),
        pytest.param(
            "tables:",
            "tabels:",
            "broker.yaml:32: callers.loader.grants[0]: unknown key 'tabels'; "
            "did you mean 'tables'?",
            id="unknown-key",
        ),
        pytest.param(
            "{operations: [read]}",
            "{operations: [read], Columns: [name]}",
            "broker.yaml:33: callers.loader.grants[0].tables.accounts: unknown key 'Columns'; "
            "did you mean 'columns'?",
            id="unknown-key-in-another-case",
        ),
        pytest.param(
            f'{{sha256: "{DIGEST_A}"}}',
            f'{{sha256: "{DIGEST_A}", expirs: 2027-06-30}}',
            "broker.yaml:26: callers.loader.identities[0].api_key: unknown key 'expirs'; "
            "did you mean 'expires'?",
            id="unknown-key-inside-one-of-several-forms",
        ),
        pytest.param(
            f'api_key: {{sha256: "{DIGEST_A}"}}',
            f'api_key: {{sha256: "{DIGEST_A}"}}\n        expires: 2027-06-30',
            "broker.yaml:27: callers.loader.identities[0]: unknown key 'expires'; no other can "
            "stand here",
            id="key-one-level-too-high",
        ),
        pytest.param(
            "api_key:",
            "apikey:",
            "broker.yaml:26: callers.loader.identities[0]: an identity is one of api_key, jwt, "
            "certificate",
            id="unknown-form",
        ),
        pytest.param(
            "[read]",
            "[raed]",
            "broker.yaml:33: callers.loader.grants[0].tables.accounts.operations[0]: "
            "'raed' is not known; did you mean 'read'?",
            id="unknown-word",
        ),
        pytest.param(
            "application: erp",
            "application: epr",
            "broker.yaml:31: callers.loader.grants[0].application: there is no application "
            "'epr'; did you mean 'erp'?",
            id="application-that-does-not-exist",
        ),
        pytest.param(
            "environment: contoso\n        app",
            "environment: contosso\n        app",
            "broker.yaml:30: callers.loader.grants[0].environment: there is no environment "
            "'contosso'; did you mean 'contoso'?",
            id="environment-that-does-not-exist",
        ),
        pytest.param(
            "issuer: cluster,",
            "issuer: clustr,",
            "broker.yaml:27: callers.loader.identities[1].jwt.issuer: there is no issuer "
            "'clustr'; did you mean 'cluster'?",
            id="issuer-that-does-not-exist",
        ),
        pytest.param(
            "administrator: admin",
            "administrator: boss",
            "broker.yaml:18: environments.contoso.administrator: there is no application "
            "'boss'; known here: admin, erp",
            id="administrator-that-does-not-exist",
        ),
        pytest.param(
            "default_environment: contoso",
            "default_environment: fabrikam",
            "broker.yaml:28: callers.loader.default_environment: no grant names environment "
            "'fabrikam'; known here: contoso",
            id="default-environment-without-a-grant",
        ),
        pytest.param(
            "application: erp",
            "application: [erp, erp]",
            "broker.yaml:31: callers.loader.grants[0].application: 'erp' stands twice for "
            "environment 'contoso': grants[0] has it already",
            id="application-twice-in-a-pool",
        ),
        pytest.param(
            "application: erp",
            "application: admin",
            "broker.yaml:31: callers.loader.grants[0].application: 'admin' is the administrator "
            "of environment 'contoso' and cannot be granted: use an app registration of its own",
            id="administrator-granted",
        ),
        pytest.param(
            "5c2e9d10-0000-0000-0000-000000000002",
            "5c2e9d10-0000-0000-0000-000000000001",
            "broker.yaml:31: callers.loader.grants[0].application: 'erp' is the administrator "
            "of environment 'contoso' and cannot be granted: use an app registration of its own",
            id="administrator-granted-under-a-second-name",
        ),
        pytest.param(
            "client_secret: {env: ERP_SECRET}",
            "client_secret: swordfish",
            "broker.yaml:8: applications.erp.credentials[0].client_secret: a secret never stands "
            "in the file itself: {env: NAME}, {file: PATH} or {key_vault: {vault: URL, name: "
            "NAME}}",
            id="secret-in-the-file",
        ),
        pytest.param(
            "tenant_id: 8b1f7a52-0000-0000-0000-000000000001\n    client_id",
            "client_id",
            "broker.yaml:4: applications.erp: 'tenant_id' is missing",
            id="missing-key",
        ),
        pytest.param(
            "  erp:",
            "  -erp:",
            "broker.yaml:4: applications.-erp: a name has letters, digits, '.', '_' and '-', "
            "begins with a letter or a digit and has at most 100 characters",
            id="bad-name",
        ),
        pytest.param(
            "grants:\n      - environment",
            "grants:\n        environment",
            "broker.yaml:29: callers.loader.grants: must be a list",
            id="mapping-for-a-list",
        ),
        pytest.param(
            "application: erp",
            "application: erp\n        issue_token: 'false'",
            "broker.yaml:32: callers.loader.grants[0].issue_token: must be true or false, "
            "without quotes",
            id="quoted-false",
        ),
        pytest.param(
            "application: erp",
            "application: erp\n        limits: {page_size: 6000}",
            "broker.yaml:32: callers.loader.grants[0].limits.page_size: must be at most 5000",
            id="limit-above-dataverses-own",
        ),
        pytest.param(
            "application: erp",
            "application: {name: erp}",
            "broker.yaml:31: callers.loader.grants[0].application: must be an application's "
            "name, or a list of them",
            id="wrong-shape",
        ),
        pytest.param(
            f'sha256: "{DIGEST_A}"',
            f'sha256: "{DIGEST_A}", expires: 20270630',
            "broker.yaml:26: callers.loader.identities[0].api_key.expires: must be a day like "
            "2027-06-30",
            id="number-for-a-day",
        ),
        pytest.param(
            "sub: ",
            "preferred_username: ",
            "broker.yaml:27: callers.loader.identities[1].jwt.claims: preferred_username can be "
            "changed by the user; use sub, oid or azp",
            id="mutable-claim",
        ),
        pytest.param(
            "sub: ",
            "tid: ",
            "broker.yaml:27: callers.loader.identities[1].jwt.claims: identify nobody: add sub, "
            "oid, azp, appid or a role",
            id="claims-that-everybody-has",
        ),
        pytest.param(
            'claims: {sub: "system:serviceaccount:erp:loader"}',
            "claims: {roles: []}",
            "broker.yaml:27: callers.loader.identities[1].jwt.claims.roles: must not be empty",
            id="claim-that-matches-everything",
        ),
        pytest.param(
            "https://contoso.crm4",
            "http://contoso.crm4",
            "broker.yaml:17: environments.contoso.url: must be https: what goes there is secret "
            "(http only on loopback)",
            id="plain-http",
        ),
        pytest.param(
            "https://kubernetes.example",
            "https://broker.internal.example",
            "broker.yaml:21: issuers.cluster.issuer: is the broker itself: its tokens prove "
            "nobody, or one could renew itself for ever",
            id="broker-as-issuer",
        ),
        pytest.param(
            "audience: broker",
            "audience: https://contoso.api.crm4.dynamics.com/",
            "broker.yaml:21: issuers.cluster.audience: is the URL of environment 'contoso': "
            "tokens for Dataverse are no proof of who sends them; give the broker an audience "
            "of its own",
            id="dataverse-audience",
        ),
        pytest.param(
            "application: erp",
            "application: erp\n        limits: {page_size: '500'}",
            "broker.yaml:32: callers.loader.grants[0].limits.page_size: must be a whole number, "
            "without quotes",
            id="quoted-number",
        ),
        pytest.param(
            "application: erp",
            "application: erp\n        limits: {page_size: 0}",
            "broker.yaml:32: callers.loader.grants[0].limits.page_size: must be at least 1",
            id="limit-of-nothing",
        ),
        pytest.param(
            "application: erp",
            "application: erp\n        metadata: [all]",
            "broker.yaml:32: callers.loader.grants[0].metadata: must be one of none, granted, all",
            id="list-for-a-word",
        ),
        pytest.param(
            "application: erp",
            "application: erp\n        impersonate: {as: 7}",
            "broker.yaml:32: callers.loader.grants[0].impersonate.as: must be a GUID, in quotes",
            id="number-for-a-guid",
        ),
        pytest.param(
            "    default_environment",
            "    description: 7\n    default_environment",
            "broker.yaml:28: callers.loader.description: must be text: put it in quotes",
            id="number-for-a-text",
        ),
        pytest.param(
            "{env: ERP_SECRET}",
            "{env: ERP-SECRET}",
            "broker.yaml:8: applications.erp.credentials[0].client_secret.env: must have the form "
            "^[A-Za-z_][A-Za-z0-9_]*$",
            id="no-name-of-a-variable",
        ),
        pytest.param(
            "{operations: [read]}",
            "[read]",
            "broker.yaml:33: callers.loader.grants[0].tables.accounts: must be a mapping",
            id="list-for-a-mapping",
        ),
        pytest.param(
            "issuers:\n  cluster: {issuer: https://kubernetes.example, audience: broker}",
            "issuers: [cluster]",
            "broker.yaml:20: issuers: must be a mapping of names",
            id="list-for-a-section",
        ),
        pytest.param(
            "issuer: https://kubernetes.example",
            "issuer: kubernetes/serviceaccount",
            "broker.yaml:21: issuers.cluster: issuer must be an absolute URL, like "
            "https://contoso.crm4.dynamics.com; or name a jwks_uri, where its keys are found",
            id="issuer-without-an-address",
        ),
        pytest.param(
            "public_url: https://broker.internal.example\n",
            "",
            "broker.yaml: 'public_url' is missing",
            id="no-public-url",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_remedy(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert expected in problems(write(tmp_path, edited(old, new)))


def test_mistakes_in_different_entries_are_all_named_at_once(tmp_path: Path) -> None:
    text = (
        edited("application: erp", "application: epr")
        .replace("client_id: 5c2e9d10-0000-0000-0000-000000000001", "client_id: {}")
        .replace("tables:", "tabels:")
    )

    found = problems(write(tmp_path, text))

    assert [line.split(": ")[1] for line in found] == [
        "applications.erp.client_id",
        "callers.loader.grants[0]",
    ]


def test_a_name_of_a_wrong_entry_is_not_reported_as_missing(tmp_path: Path) -> None:
    text = edited("tenant_id: 8b1f7a52-0000-0000-0000-000000000001", "tenant_id: '../..'")
    assert [line.split(": ")[1] for line in problems(write(tmp_path, text))] == [
        "applications.erp.tenant_id"
    ]


CALLER = """\
  second:
    identities:
      - {identity}
"""


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        pytest.param(
            f'api_key: {{sha256: "{DIGEST_A}"}}',
            "callers.second.identities[0].api_key.sha256: the same key stands at "
            "callers.loader.identities[0] (broker.yaml:26)",
            id="the-same-key",
        ),
        pytest.param(
            'jwt: {issuer: cluster, claims: {sub: "system:serviceaccount:erp:loader", ns: erp}}',
            "callers.second.identities[0].jwt: a token that matches this can match 'loader' too, "
            "at callers.loader.identities[1] (broker.yaml:27): add a claim that tells them apart",
            id="a-narrower-match",
        ),
        pytest.param(
            'jwt: {issuer: cluster, claims: {sub: ["system:serviceaccount:erp:loader"]}}',
            "callers.second.identities[0].jwt: a token that matches this can match 'loader' too, "
            "at callers.loader.identities[1] (broker.yaml:27): add a claim that tells them apart",
            id="the-same-match-as-a-list",
        ),
    ],
)
def test_two_callers_cannot_prove_themselves_by_the_same(
    tmp_path: Path, identity: str, expected: str
) -> None:
    text = GOOD + CALLER.format(identity=identity)
    assert [line.split(": ", 1)[1] for line in problems(write(tmp_path, text))] == [expected]


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param(f'api_key: {{sha256: "{DIGEST_B}"}}', id="another-key"),
        pytest.param(
            'jwt: {issuer: cluster, claims: {sub: "system:serviceaccount:erp:other"}}',
            id="another-subject",
        ),
        pytest.param("certificate: {san: spiffe://corp/erp/loader}", id="a-certificate"),
    ],
)
def test_two_callers_with_different_proofs_load(tmp_path: Path, identity: str) -> None:
    file = write(tmp_path, GOOD + CALLER.format(identity=identity))
    assert "second" in load(file, environ={"ERP_SECRET": "x"}).configuration.callers


def test_two_callers_cannot_share_a_certificate_name(tmp_path: Path) -> None:
    """Case does not count in a DNS name, but does in a URI."""
    text = GOOD + CALLER.format(identity="certificate: {san: Loader.example}")
    text += "      - certificate: {san: spiffe://corp/Loader}\n"
    third = CALLER.format(identity="certificate: {san: loader.EXAMPLE}").replace("second", "third")
    third += "      - certificate: {san: spiffe://corp/loader}\n"
    assert [line.split(": ", 1)[1] for line in problems(write(tmp_path, text + third))] == [
        (
            "callers.third.identities[0].certificate.san: the same name stands at "
            "callers.second.identities[0] (broker.yaml:36)"
        )
    ]


def test_one_issuer_url_has_one_entry(tmp_path: Path) -> None:
    text = edited(
        "  cluster:", "  first: {issuer: https://kubernetes.example, audience: x}\n  cluster:"
    )
    assert problems(write(tmp_path, text)) == [
        (
            "broker.yaml:22: issuers.cluster.issuer: is the issuer of 'first' too: list both "
            "audiences there"
        )
    ]


def test_what_others_find_wrong_is_placed_in_its_line_too(tmp_path: Path) -> None:
    """As the policy compiler does, which knows the schema."""
    file = write(tmp_path)
    loaded = load(file, environ={"ERP_SECRET": "x"})
    place = ("callers", "loader", "grants", 0, "tables", "accounts")
    message = "callers.loader.grants[0].tables.accounts: no such table"
    assert problems_at(loaded, [(place, "no such table")]) == (Problem(file, 33, message),)
    assert problems_at(loaded, []) == ()
    file.unlink()
    assert problems_at(loaded, [(place, "no such table")]) == (Problem(file, 1, message),)


# ------------------------------------------------------------------------------ folders


def split(folder: Path) -> None:
    head, rest = GOOD.split("callers:\n")
    write(folder, head, "broker.yaml")
    write(folder, "callers:\n" + rest, "callers.yaml")


def test_a_folder_is_merged_from_its_yaml_files_only(tmp_path: Path) -> None:
    split(tmp_path)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "more.yaml").write_text("nonsense: true")
    (tmp_path / "notes.txt").write_text("nonsense: true")
    (tmp_path / ".hidden.yaml").write_text("nonsense: true")

    loaded = load(tmp_path, environ={"ERP_SECRET": "x"})

    assert list(loaded.configuration.callers) == ["loader"]
    assert [file.name for file in loaded.files] == ["broker.yaml", "callers.yaml", "admin.secret"]


def test_a_name_in_two_files_is_refused_naming_both(tmp_path: Path) -> None:
    split(tmp_path)
    (tmp_path / "more.yaml").write_text("callers:\n  loader: {}\n")
    assert problems(tmp_path) == [
        f"more.yaml:2: callers.loader is defined twice: here and in "
        f"{tmp_path / 'callers.yaml'} line 2".replace(f"{tmp_path}{os.sep}", "")
    ]


def test_public_url_in_two_files_is_refused(tmp_path: Path) -> None:
    split(tmp_path)
    (tmp_path / "more.yaml").write_text("public_url: https://broker.internal.example\n")
    assert problems(tmp_path) == [
        "more.yaml:1: public_url is defined twice: here and in broker.yaml line 1"
    ]


def test_a_kubernetes_mount_is_read_once_through_its_links(tmp_path: Path) -> None:
    version = tmp_path / "..2027_01_01_00_00_00.1"
    version.mkdir()
    split(version)
    (tmp_path / "..data").symlink_to(version.name)
    for name in ("broker.yaml", "callers.yaml", "admin.secret"):
        (tmp_path / name).symlink_to(Path("..data") / name)

    loaded = load(tmp_path, environ={"ERP_SECRET": "x"})

    assert [str(file.relative_to(tmp_path)) for file in loaded.files] == [
        "broker.yaml",
        "callers.yaml",
        "admin.secret",
    ]


def test_a_file_that_is_no_yaml_does_not_make_its_names_missing(tmp_path: Path) -> None:
    split(tmp_path)
    (tmp_path / "broker.yaml").write_text("applications: [\n")
    found = problems(tmp_path)
    assert len(found) == 1
    assert found[0].startswith("broker.yaml:2: is no YAML: ")


@pytest.mark.parametrize("name", ["missing.yaml", "empty"])
def test_nothing_to_read_is_an_error_that_names_the_place(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    text = edited("administrator: admin", "schema: {file: metadata.xml}")
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "metadata.xml").write_text("<edmx/>")
    (tmp_path / "metadata.xml").write_text("<other/>")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        loaded = load(write(Path("conf"), text), environ={"ERP_SECRET": "x"})
    finally:
        os.chdir(here)
    schema = loaded.configuration.environments["contoso"].schema_
    assert schema == SchemaFile(file=folder / "metadata.xml")


# ------------------------------------------------------------------------------ secrets


def test_a_missing_variable_and_a_missing_file_are_both_named(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "admin.secret").unlink()
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={})
    assert [p.message for p in caught.value.problems] == [
        (
            "applications.erp.credentials[0].client_secret: the environment variable ERP_SECRET is "
            "not set"
        ),
        (
            "applications.admin.credentials[0].client_secret: the file "
            f"{tmp_path / 'admin.secret'} cannot be read: No such file or directory"
        ),
    ]


def test_a_check_without_secrets_asks_for_none(tmp_path: Path) -> None:
    file = write(tmp_path, edited("administrator", "ca_file: /nowhere/ca.pem\n    administrator"))
    (tmp_path / "admin.secret").unlink()
    assert load(file, environ={}, offline=True).files == (file,)
    assert problems(file) != []


def test_no_error_repeats_a_value(tmp_path: Path) -> None:
    """Values that stand in the wrong place may be secrets."""
    text = dedent("""\
        public_url: https://user:canary@broker
        applications:
          erp: {tenant_id: "canary canary", client_id: canary, credentials: [canary]}
          two: {tenant_id: x, client_id: 1canary, credentials: [{client_secret: canary}]}
        environments:
          one: {url: "https://canary:canary", schema: canary2, administrator: "canary canary"}
        callers:
          c:
            identities: [{api_key: {sha256: canary, expires: canary}}, canary]
            disabled: canary
            grants: canary
        """)
    assert "canary" not in "\n".join(problems(write(tmp_path, text))).replace("'canary2'", "")


def test_a_certificate_and_its_passphrase_are_read_and_a_schema_that_is_missing_is_named(
    tmp_path: Path,
) -> None:
    certificate = "certificate: {file: erp.pfx}\n        passphrase: {env: ERP_SECRET}"
    text = edited("client_secret: {env: ERP_SECRET}", certificate)
    (tmp_path / "erp.pfx").write_bytes(b"\x30\x82\xff")
    loaded = load(write(tmp_path, text), environ={"ERP_SECRET": "swordfish"})
    credential = loaded.configuration.applications["erp"].credentials[0]
    assert isinstance(credential, CertificateCredential)
    assert credential.passphrase is not None
    assert loaded.secrets.data(credential.certificate).get_secret_value() == b"\x30\x82\xff"
    assert loaded.secrets.text(credential.passphrase).get_secret_value() == "swordfish"

    pinned = text.replace("administrator: admin", "schema: {file: gone.xml}")
    assert problems(write(tmp_path, pinned)) == [
        (
            "broker.yaml:19: environments.contoso.schema.file: the file gone.xml cannot be read: "
            "No such file or directory"
        )
    ]


def test_a_secret_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "admin.secret").write_bytes(b"\xff\xfe")
    assert problems(file) == [
        (
            "broker.yaml:13: applications.admin.credentials[0].client_secret: the file "
            "admin.secret is not UTF-8 text"
        )
    ]


# ------------------------------------------------------------------------------ version


def test_the_version_changes_with_a_file_and_with_a_secret_only(tmp_path: Path) -> None:
    file = write(tmp_path)
    environ = {"ERP_SECRET": "x"}
    first = load(file, environ=environ).version

    assert load(file, environ=environ).version == first
    assert load(file, environ={"ERP_SECRET": "y"}).version != first
    (tmp_path / "admin.secret").write_text("changed")
    assert load(file, environ=environ).version != first
    (tmp_path / "admin.secret").write_text("hunter2\n")
    assert load(file, environ=environ).version == first
    file.write_text(GOOD + "# a comment\n")
    assert load(file, environ=environ).version != first


def test_the_public_half_of_the_version_knows_no_secret(tmp_path: Path) -> None:
    file = write(tmp_path)
    one, two = (load(file, environ={"ERP_SECRET": secret}).version for secret in ("x", "y"))
    assert one.split("-")[0] == two.split("-")[0]
