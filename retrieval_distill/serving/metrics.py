"""What is counted and timed, in Prometheus' text format; each service has its own registry.

Knows numbers; must not know requests or engines.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from retrieval_distill.serving.batching import Observed

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.09, 0.12, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)
PREFIX = "retrieval_distill"


class Metrics:
    """The metrics of one service."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def made(kind: type, name: str, told: str, labels: tuple[str, ...] = (), **options: object) -> object:
            return kind(f"{PREFIX}_{name}", told, labels, registry=self.registry, **options)

        self.requests: Counter = made(Counter, "requests", "Requests answered.", ("route", "status"))  # type: ignore[assignment]
        self.request_seconds: Histogram = made(  # type: ignore[assignment]
            Histogram, "request_seconds", "Time from a request's head to its answer's end.", ("route",), buckets=SECONDS
        )
        self.in_flight: Gauge = made(Gauge, "requests_in_flight", "Requests being answered.")  # type: ignore[assignment]
        self.stage_seconds: Histogram = made(  # type: ignore[assignment]
            Histogram, "stage_seconds", "Time of one batch in a stage.", ("stage",), buckets=SECONDS
        )
        self.wait_seconds: Histogram = made(  # type: ignore[assignment]
            Histogram, "wait_seconds", "Time that a request waited for a stage.", ("stage",), buckets=SECONDS
        )
        self.batch_items: Histogram = made(  # type: ignore[assignment]
            Histogram, "batch_items", "Texts, questions or pairs of one batch.", ("stage",), buckets=ITEMS
        )
        self.queue: Gauge = made(Gauge, "queue_items", "Items that wait or are worked on.", ("stage",))  # type: ignore[assignment]
        self.errors: Counter = made(Counter, "errors", "Errors that are the server's.", ("kind",))  # type: ignore[assignment]
        self.reloads: Counter = made(Counter, "reloads", "Newer states that were opened.", ("result",))  # type: ignore[assignment]

    def observer(self, stage: str, length: Callable[[], int]) -> Callable[[Observed], None]:
        """What a stage's batcher tells of its batches goes here."""
        self.queue.labels(stage).set_function(length)

        def observe(batch: Observed) -> None:
            self.stage_seconds.labels(stage).observe(batch.seconds)
            self.batch_items.labels(stage).observe(batch.items)
            for seconds in batch.waited:
                self.wait_seconds.labels(stage).observe(seconds)

        return observe

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
