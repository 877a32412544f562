"""How Dataverse's limits are shared out, and what Dataverse says is left of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric


class ShareState(NamedTuple):
    """One application in one environment."""

    application: str
    environment: str
    running: int
    waiting: int
    concurrency_limit: float
    paused_s: float
    requests_left: float | None
    """As the newest answer says it; None where it says nothing. For people, not for us."""
    execution_left_s: float | None


_LABELS = ("application", "environment")

_GAUGES: tuple[tuple[str, str, Callable[[ShareState], float | None]], ...] = (
    (
        "broker_share_running",
        "Requests that Dataverse works on at this moment.",
        lambda s: s.running,
    ),
    ("broker_share_waiting", "Requests that wait for their turn.", lambda s: s.waiting),
    (
        "broker_share_concurrency_limit",
        "How many may be with Dataverse at once; moves with its 429s.",
        lambda s: s.concurrency_limit,
    ),
    (
        "broker_share_paused_seconds",
        "How long Dataverse still wants to hear nothing.",
        lambda s: s.paused_s,
    ),
    (
        "broker_dataverse_requests_left",
        "x-ms-ratelimit-burst-remaining-xrm-requests of the newest answer.",
        lambda s: s.requests_left,
    ),
    (
        "broker_dataverse_execution_left_seconds",
        "x-ms-ratelimit-time-remaining-xrm-requests of the newest answer.",
        lambda s: s.execution_left_s,
    ),
)


class Shares(Collector):
    def __init__(self, states: Callable[[], Iterable[ShareState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        states = list(self._states())
        for name, documentation, read in _GAUGES:
            family = GaugeMetricFamily(name, documentation, labels=_LABELS)
            for state in states:
                found = read(state)
                if found is not None:
                    family.add_metric((state.application, state.environment), found)
            yield family
