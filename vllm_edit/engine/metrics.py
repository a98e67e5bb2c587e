"""What `/metrics` says of the time that weight edits take."""

from prometheus_client import Counter, Gauge, Histogram

from vllm_edit.processes.figures import forget

_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
)  # fmt: skip

COMPUTING = Histogram(
    "vllm_edit_compute_seconds",
    "Time in which the editor process computed a delta, by method",
    ["method"],
    buckets=_BUCKETS,
)
SWAPPING = Histogram(
    "vllm_edit_swap_seconds",
    "Time of a swap's parts: stage, while requests are served, and pause, while they wait",
    ["part"],
    buckets=_BUCKETS,
)
SWAP_FAILURES = Counter(
    "vllm_edit_swap_failures", "Swaps that the engine refused; it served on what it served before"
)
UNITS = Gauge(
    "vllm_edit_spare_units",
    "Spare inner units by MLP, used by live edits or free, from the first edit that needs some",
    ["mlp", "state"],
    multiprocess_mode="mostrecent",
)
SERVED = Gauge(
    "vllm_edit_revision_served",
    "Revision of the latest change that is in effect here",
    multiprocess_mode="livemin",
)
NOT_SERVING = Gauge(
    "vllm_edit_serving_stopped",
    "1 when a swap that could not be ended has stopped the engine until the server's next start",
    multiprocess_mode="max",
)


def forget_adapter(gauge: Gauge, name: str) -> None:
    """Drop the series that name an adapter, among others, in any label."""
    (metric,) = gauge.collect()
    for sample in metric.samples:
        if any(name in value.split(",") for value in sample.labels.values()):
            forget(gauge, sample.labels)
