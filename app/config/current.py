"""The configuration that counts at this moment, and whether a newer one was refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from app.config.loaded import Loaded
    from app.errors import BrokerError


@dataclass(slots=True)
class Current:
    """Read by readiness and metrics. Changed by whoever swaps a configuration in, as the last step.

    `degraded` says why the newest configuration is not the one that counts (law 9).
    """

    loaded: Loaded
    loaded_at: datetime
    degraded: BrokerError | None = None
    degraded_since: datetime | None = None

    def replace(self, loaded: Loaded, *, at: datetime) -> None:
        self.loaded = loaded
        self.loaded_at = at
        self.degraded = self.degraded_since = None

    def degrade(self, error: BrokerError, *, at: datetime) -> None:
        """Keep what counts, and remember since when it is not what the files say."""
        if self.degraded is None:
            self.degraded_since = at
        self.degraded = error
