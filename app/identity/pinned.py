"""One JWS algorithm, chosen by configuration and key, and never by the token."""

from __future__ import annotations

from functools import cache
from typing import Any

from joserfc import jws
from joserfc.errors import UnsupportedAlgorithmError


class _Pinned(jws.JWSRegistry):
    """joserfc's own advice is not asked for.

    It warns of `EdDSA` because RFC 9864 renames it, and of headers that it does not know.
    """

    max_header_length = 4096

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)
        self._algorithm = algorithm

    def get_alg(self, name: str) -> Any:
        if name != self._algorithm:
            raise UnsupportedAlgorithmError(f"not {self._algorithm}")
        return self.algorithms[name]


@cache
def pinned(algorithm: str) -> jws.JWSRegistry:
    """A registry that knows `algorithm` and nothing else."""
    return _Pinned(algorithm)
