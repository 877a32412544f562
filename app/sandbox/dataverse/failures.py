"""How Dataverse says no: status, code and sentence, as its Web API writes them."""

from __future__ import annotations

import msgspec

JSON_TYPE = "application/json; odata.metadata=minimal"


class Failed(Exception):
    """Ends a request. `code` is Dataverse's (`0x80040217`), `message` its sentence."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def error_body(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}})


def bad_request(message: str, code: str = "0x80060888") -> Failed:
    return Failed(400, code, message)


def bad_payload(table: str, reason: str) -> Failed:
    """What is wrong with a body, in the wrapping that Dataverse puts around it."""
    return Failed(
        400,
        "0x80048d19",
        f"Error identified in Payload provided by the user for Entity :'{table}', For more "
        "information on this error please follow this help link "
        f"https://go.microsoft.com/fwlink/?linkid=2195293  ---->  InnerException : {reason}",
    )


def no_segment(name: str) -> Failed:
    return Failed(404, "0x80060888", f"Resource not found for the segment '{name}'.")


def no_property(name: str, table: str) -> Failed:
    return bad_request(
        f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'."
    )


def no_row(table: str, row_id: str) -> Failed:
    return Failed(404, "0x80040217", f"{table} With Id = {row_id} Does Not Exist")


def no_row_with_key(table: str) -> Failed:
    return Failed(
        404,
        "0x80060891",
        f"A record with the specified key values does not exist in {table} entity",
    )


def version_mismatch() -> Failed:
    return Failed(
        412,
        "0x80060882",
        "The version of the existing record doesn't match the RowVersion property provided.",
    )


def already_exists() -> Failed:
    return Failed(412, "0x80040237", "A record with matching key values already exists.")


def not_allowed(method: str) -> Failed:
    return Failed(
        405,
        "0x80060888",
        f"The requested resource does not support http method '{method}'.",
    )


def not_emulated(what: str) -> Failed:
    """Dataverse can do it, this sandbox cannot: said plainly, so that nobody takes it for a no."""
    return Failed(501, "0x80060888", f"The sandbox does not emulate {what}.")
