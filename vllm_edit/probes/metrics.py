"""Metrics about the judging of edits."""

from prometheus_client import Counter

ASKED = Counter("vllm_edit_probes", "Prompts asked to judge edits, before and after them")
FAILED = Counter(
    "vllm_edit_probes_failed_edits", "Edits taken back since their probes were answered badly"
)
