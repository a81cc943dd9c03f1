# SPDX-License-Identifier: Apache-2.0
"""What an operator watches, in Prometheus's text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ditfuse_jax.serve.worker import Worker

SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
OUTCOMES = ("done", "failed", "cancelled", "refused")


class Metrics:
    """Counters of one server; `watch` adds the gauges of its worker."""

    def __init__(self):
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.fusions = Counter("ditfuse_fusions", "Fusions by how they ended", ["outcome"], **own)
        self.seconds = Histogram(
            "ditfuse_batch_seconds", "Time of a batch in the model", buckets=SECONDS, **own
        )
        self.sizes = Histogram("ditfuse_batch_size", "Fusions in a batch", buckets=(1, 2, 4, 8), **own)
        for outcome in OUTCOMES:
            self.fusions.labels(outcome)

    def watch(self, worker: Worker) -> None:
        for name, help, value in (
            ("ditfuse_waiting", "Fusions that wait", lambda: worker.num_waiting),
            ("ditfuse_running", "Fusions in the model", lambda: worker.num_running),
        ):
            Gauge(name, help, registry=self.registry).set_function(value)

    def ended(self, outcome: str, seconds: float, size: int) -> None:
        """As the worker tells it."""
        self.fusions.labels(outcome).inc(size)
        if outcome == "done":
            self.seconds.observe(seconds)
            self.sizes.observe(size)

    def refused(self) -> None:
        self.fusions.labels("refused").inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
