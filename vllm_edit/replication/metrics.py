"""Metrics about a server's part among the servers of its store."""

from prometheus_client import Gauge

LEADS = Gauge(
    "vllm_edit_leads",
    "1 on the server that makes the changes, 0 on those that follow it",
    multiprocess_mode="livemax",
)
