from __future__ import annotations

from typing import TYPE_CHECKING

from app.audit.record import Part, Record, TableAccess
from app.audit.report import NOBODY, TableUse, table_use

if TYPE_CHECKING:
    from collections.abc import Callable


def touch(table: str, operation: str) -> TableAccess:
    return TableAccess(table=table, operation=operation, columns=None)


def test_a_report_says_who_read_and_wrote_which_table_on_which_day(
    record: Callable[..., Record],
) -> None:
    records = [
        record(accesses=(touch("accounts", "read"),), application="erp"),
        record(accesses=(touch("accounts", "read"),), application="erp"),
        # A write that also reads what it answers is a write, once.
        record(
            accesses=(touch("invoices", "create"), touch("invoices", "read")), application="erp"
        ),
        record(accesses=(touch("contacts", "read"),), decision="refused"),
        record(accesses=(touch("contacts", "read"),), decision="error", caller=None),
        record(accesses=(touch("accounts", "read"),), time="2026-10-15T00:00:00.000000Z"),
        record(
            parts=(
                Part(
                    method="DELETE",
                    target="accounts",
                    accesses=(touch("accounts", "delete"),),
                    decision="allowed",
                ),
            ),
            application="erp",
        ),
        record(action="token"),
    ]
    who = "invoice-loader"
    assert table_use(records) == [
        TableUse("2026-10-14", "accounts", who, "erp", reads=2, writes=1, refused=0, failed=0),
        TableUse("2026-10-14", "contacts", NOBODY, "", reads=0, writes=0, refused=0, failed=1),
        TableUse("2026-10-14", "contacts", who, "", reads=0, writes=0, refused=1, failed=0),
        TableUse("2026-10-14", "invoices", who, "erp", reads=0, writes=1, refused=0, failed=0),
        TableUse("2026-10-15", "accounts", who, "", reads=1, writes=0, refused=0, failed=0),
    ]
