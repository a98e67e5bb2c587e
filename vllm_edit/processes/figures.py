"""Figures on `/metrics` of what has ended."""

import os
from collections.abc import Mapping

from prometheus_client.metrics import MetricWrapperBase


def forget(metric: MetricWrapperBase, labels: Mapping[str, str]) -> None:
    """Drop the series with these labels.

    Where several processes count together, series cannot be dropped and stay until the server
    ends.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        metric.remove_by_labels(dict(labels))
