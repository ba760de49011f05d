"""What the server tells Prometheus: the engine's counts as they are, and answers by route and status."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from envfarm.model.engine.engine_thread import RunningEngine

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_COUNTS = {
    "steps": "Forward passes of the main model.",
    "prefilled_tokens": "Tokens of prompts that went through the model.",
    "reused_tokens": "Tokens of prompts whose keys and values were kept from an earlier turn.",
    "generated_tokens": "Tokens of answers.",
    "drafted_tokens": "Guessed tokens that were verified.",
    "accepted_tokens": "Guessed tokens that were right.",
    "preemptions": "Times that a request gave its memory to an older one.",
}


class Metrics:
    """One server's metrics.

    Attributes:
        answers: Answers by route and HTTP status.
        seconds: How long answers took, by route.
    """

    def __init__(self, engine: RunningEngine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine))
        self.answers = Counter("envfarm_model_answers", "Answers.", ["route", "status"], registry=self._registry)
        self.seconds = Histogram(
            "envfarm_model_answer_seconds",
            "Seconds from a request to its answer's end.",
            ["route"],
            registry=self._registry,
        )

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Reads the engine's counts when it is asked."""

    def __init__(self, engine: RunningEngine) -> None:
        self._engine = engine

    def collect(self) -> "Iterator[Metric]":
        engine = self._engine.engine
        for name, text in _COUNTS.items():
            yield CounterMetricFamily(f"envfarm_model_{name}", text, value=getattr(engine.counts, name))
        gauges = {
            "open_requests": ("Requests that wait or generate.", self._engine.open_requests),
            "running_requests": ("Requests that generate.", engine.running_requests),
            "kept_conversations": ("Conversations kept for a later turn.", engine.kept_conversations),
            "used_blocks": ("Blocks of global layers that are taken.", engine.memory.pool.used_blocks),
            "key_value_bytes": ("Bytes of keys and values.", engine.memory.key_value_bytes),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"envfarm_model_{name}", text, value=value)
