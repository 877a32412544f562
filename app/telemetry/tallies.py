"""Counters and a histogram for one thread: a dict and a list, told to Prometheus at each scrape.

prometheus_client's own take a lock for each value, and walk the buckets; on the hot path that
came to a tenth of all that the broker does.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics_core import Metric

Labels = tuple[str | int, ...]


class Tally(Collector):
    """A counter by labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        told_at_once: Sequence[Labels] = (),
    ) -> None:
        """`told_at_once` stand there with 0, so that a rate can be taken from the first one on."""
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._counts: dict[Labels, int] = dict.fromkeys(told_at_once, 0)

    def add(self, labels: Labels) -> None:
        counts = self._counts
        counts[labels] = counts.get(labels, 0) + 1

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, count in list(self._counts.items()):
            family.add_metric([str(label) for label in labels], count)
        yield family


class Durations(Collector):
    """A histogram of seconds by one label, or (`label` None) of all together."""

    def __init__(
        self, name: str, documentation: str, bounds: Sequence[float], label: str | None = None
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._label = label
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        if label is None:
            self._begin("")

    def _begin(self, value: str) -> list[int]:
        counts = self._counts[value] = [0] * (len(self._bounds) + 1)
        self._sums[value] = 0.0
        return counts

    def add(self, seconds: float, value: str = "") -> None:
        counts = self._counts.get(value)
        if counts is None:
            counts = self._begin(value)
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[value] += seconds

    def collect(self) -> Iterable[Metric]:
        labels = () if self._label is None else (self._label,)
        family = HistogramMetricFamily(self._name, self._documentation, labels=labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, counts in list(self._counts.items()):
            below = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip(bounds, counts, strict=True):
                below += count
                buckets.append((bound, float(below)))
            family.add_metric([value] if labels else [], buckets, self._sums[value])
        yield family
