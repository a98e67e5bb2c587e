"""Metrics about what is recorded and what is served."""

from prometheus_client import Gauge

ASTRAY = Gauge(
    "vllm_edit_astray",
    "1 while something else may be served than what is recorded, after a failure; else 0",
    multiprocess_mode="max",
)
QUEUE = Gauge(
    "vllm_edit_queue",
    "Weight edits that wait or are being computed",
    multiprocess_mode="livemax",
)
