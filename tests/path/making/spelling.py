"""The same request in other letters."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from tests.path.second_reader import Asking

if TYPE_CHECKING:
    from tests.path.making.dice import Dice


def respelt(asking: Asking, dice: Dice) -> Asking:
    """The same request in other letters: encodings, the order of options, the case of headers."""
    path, mark, query = asking.target.partition("?")
    pieces = [
        "=".join(_recoded(part, dice) for part in option.split("=", 1))
        for option in query.split("&")
    ]
    # Aliases and options keep their meaning wherever they stand.
    shuffled: list[str] = []
    while pieces:
        shuffled.append(pieces.pop(dice.number(0, len(pieces) - 1)))
    again = _recoded(path, dice, path=True) + mark + "&".join(shuffled)
    headers = tuple((_cased(n, dice), v) for n, v in asking.headers)
    return Asking(asking.method, again, headers, asking.body)


def _recoded(text: str, dice: Dice, *, path: bool = False) -> str:
    raw = unquote_to_bytes(text if path else text.replace("+", "%20"))
    kept = b"-_~0123456789" + b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    allowed = kept + (b"/.$'()*,=:@!" if path else b".$'()*,:@!/")
    written = []
    for byte in raw:
        if (path and byte in b"/.\\") or (byte in allowed and not dice.chance(0.15)):
            written.append(chr(byte))
        elif byte == 0x20 and not path and dice.chance(0.5):
            written.append("+")
        else:
            written.append(f"%{byte:02x}" if dice.chance(0.5) else f"%{byte:02X}")
    return "".join(written)


def _cased(name: str, dice: Dice) -> str:
    return dice.pick((name, name.lower(), name.upper()))
