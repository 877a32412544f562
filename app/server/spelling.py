"""Names of headers as their definitions write them: some clients compare them letter by letter.

Microsoft's asynchronous client for Python looks for `OData-EntityId` and `Retry-After` in a plain
dict. HTTP does not mind the case of a name, and ASGI wants lower case from its apps.
"""

from __future__ import annotations

from typing import Final

SPELT: Final = {
    name.lower(): name
    for name in (
        *(b"Allow", b"Content-Disposition", b"Content-Encoding", b"Content-Length"),
        *(b"Content-Range", b"Content-Type", b"ETag", b"Location", b"OData-EntityId"),
        *(b"OData-Version", b"Preference-Applied", b"REQ_ID", b"Retry-After", b"WWW-Authenticate"),
        *(b"Broker-Attempts", b"Broker-Decision", b"Broker-Dropped-Headers"),
        *(b"Broker-Request-Id", b"Broker-Waited-Ms"),
    )
}
"""By name in lower case."""
