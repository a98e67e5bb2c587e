"""How far weight edits have moved the model's answers to control prompts, for `/metrics`.

The editor measures it with every delta that it computes: KL(base || edited) of the next token on
a fixed set of prompts, with all deltas that are live then (`weight_patchers.controls`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Counter, Gauge

from vllm_edit.processes.figures import forget
from weight_patchers import Delta
from weight_patchers.governor import GOVERNOR

DRIFT = Gauge(
    "vllm_edit_drift_nats",
    "Mean KL(base || edited) on the control prompts, as measured with the latest live weight edit",
    ["variant"],
    multiprocess_mode="mostrecent",
)
ALARMS = Counter(
    "vllm_edit_drift_alarms",
    "Deltas with which live edits passed a bound of the governor: warned of, or refused",
    ["outcome"],
)


def drift_of(delta: Delta) -> float | None:
    """The drift when the delta was computed; None in files from before it was measured."""
    drift: Mapping[str, Any] = delta.diagnostics.get(GOVERNOR, {}).get("drift", {})
    return drift.get("mean")


def publish(variants: Mapping[str, Sequence[Delta]]) -> None:
    """Set the figures of the variants from their live deltas, the latest last."""
    for variant, deltas in variants.items():
        drifts = [drift for delta in deltas if (drift := drift_of(delta)) is not None]
        DRIFT.labels(variant).set(drifts[-1] if drifts else 0.0)


def remove(variant: str) -> None:
    """Drop the figure of a variant that was deleted."""
    forget(DRIFT, {"variant": variant})
