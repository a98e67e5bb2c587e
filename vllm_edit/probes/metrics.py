"""Metrics about the judging of edits."""

from prometheus_client import Counter, Gauge

ASKED = Counter("vllm_edit_probes", "Prompts asked to judge edits, before and after them")
FAILED = Counter(
    "vllm_edit_probes_failed_edits", "Edits taken back since their probes were answered badly"
)
TOLD_ASKED = Counter(
    "vllm_edit_told_prompts", "Prompts of edits asked to see whether the edits are told"
)
NOT_TOLD_FAILED = Counter(
    "vllm_edit_not_told_failed_edits",
    "Edits taken back since their own prompt was answered otherwise",
)
WAITING = Gauge(
    "vllm_edit_told_waiting",
    "Edits that wait to be asked their own prompt in the background",
    multiprocess_mode="mostrecent",
)
NOT_TOLD = Gauge(
    "vllm_edit_not_told",
    "Active edits whose own prompt was answered otherwise when last asked, by method",
    ["method"],
    multiprocess_mode="mostrecent",
)
