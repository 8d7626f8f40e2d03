"""Counters for what is counted at every request: an addition to a dictionary, where the library's own takes a lock and three calls.

Counted on one thread, and read on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Tally(Collector):
    """A counter by the values of its labels.

    Args:
        name: without `_total`.
        documentation: one sentence.
        labels: their names.
        known: values of the labels whose counts are shown before there is anything to count; without labels, there is one count.
        registry: that shows it.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        known: Iterable[tuple[str, ...]] = (),
        *,
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.labels = tuple(labels)
        self._documentation = documentation
        self._counts = defaultdict(float, dict.fromkeys(known if labels else [()], 0.0))
        registry.register(self)

    def add(self, *values: str, n: float = 1.0) -> None:
        """Count `n` more under these values of the labels."""
        self._counts[values] += n

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Its name, for the registry."""
        yield CounterMetricFamily(self.name, self._documentation, labels=self.labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What was counted so far."""
        family = CounterMetricFamily(self.name, self._documentation, labels=self.labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family
