"""What a router counts for Prometheus. Prompts, answers, keys and accounts are in none of it."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tristrata.protocol.receipt import Receipt

_FAST = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
Reading = Mapping[tuple[str, ...], float]
"""Values of a gauge by its labels' values."""


class Metrics:
    """One router's metrics. `watch` adds what is read when somebody looks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self.watch(
            "tristrata_requests_in_flight", "HTTP requests being answered.", (), lambda: {(): float(self.in_flight)}
        )
        self._requests = Counter(
            "tristrata_requests",
            "HTTP requests, by endpoint and status.",
            ("endpoint", "status"),
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "tristrata_first_byte_seconds",
            "From a request to the first byte of its answer.",
            ("endpoint",),
            buckets=_FAST,
            registry=self.registry,
        )
        self.refusals = Counter(
            "tristrata_refusals", "Requests that were refused, by the error's code.", ("code",), registry=self.registry
        )
        self.prompt_tokens = Counter("tristrata_prompt_tokens", "Tokens of prompts, billed.", registry=self.registry)
        self.output_tokens = Counter("tristrata_output_tokens", "Tokens of answers, billed.", registry=self.registry)
        self.append_seconds = Histogram(
            "tristrata_receipt_append_seconds",
            "From a signed voucher to its place on disk.",
            buckets=_FAST,
            registry=self.registry,
        )
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one request. ``status`` is 0 where the client left before there was any."""
        children = self._children.get((endpoint, status))
        if children is None:
            children = (self._requests.labels(endpoint, str(status)), self._first_byte.labels(endpoint))
            self._children[endpoint, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def kept(self, receipt: Receipt, seconds: float) -> None:
        """Count an answer whose receipt and voucher are on disk, ``seconds`` after the voucher was signed."""
        self.prompt_tokens.inc(receipt.prompt_tokens)
        self.output_tokens.inc(receipt.output_tokens)
        self.append_seconds.observe(seconds)

    def watch(self, name: str, help_text: str, labels: tuple[str, ...], read: Callable[[], Reading]) -> None:
        """A gauge that is read when somebody looks."""
        self.registry.register(_Watched(name, help_text, labels, read))

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)


class _Watched(Collector):
    def __init__(self, name: str, help_text: str, labels: tuple[str, ...], read: Callable[[], Reading]) -> None:
        self._name, self._help, self._labels, self._read = name, help_text, labels, read

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._help, labels=self._labels)
        for values, number in self._read().items():
            family.add_metric(values, number)
        yield family

    def describe(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(self._name, self._help, labels=self._labels)
