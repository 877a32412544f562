from __future__ import annotations

from app.web.spelling import Spelt, as_documented


def test_a_name_stays_as_dataverse_spells_it() -> None:
    [(name, value)] = as_documented(((b"odata-entityid", b"https://x/accounts(1)"),))
    assert bytes(name.lower()) == b"OData-EntityId"
    assert value == b"https://x/accounts(1)"
    assert b"".join([name.lower(), b": ", value]).startswith(b"OData-EntityId: ")


def test_the_names_that_frame_an_answer_stay_a_servers_own() -> None:
    framing = ((b"content-length", b"1"), (b"connection", b"close"), (b"x-other", b"2"))
    assert as_documented(framing) == framing
    assert not any(isinstance(name, Spelt) for name, _ in as_documented(framing))
