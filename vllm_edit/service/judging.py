"""Edits with probes are judged when they take effect."""

from vllm_edit.domain.edit import Status
from vllm_edit.domain.method import MethodChange
from vllm_edit.domain.probe import Scores
from vllm_edit.ledger import Ledger
from vllm_edit.probes.gate import Baseline, ProbeGate


class Judging:
    """Judges changes with the gate; without one nothing is judged.

    Nothing else may take effect between ``take_baseline`` and ``judge``.
    """

    def __init__(self, ledger: Ledger, gate: ProbeGate | None) -> None:
        self._ledger = ledger
        self._gate = gate

    async def take_baseline(
        self, change: MethodChange, set_variant: str | None = None
    ) -> Baseline | None:
        """Ask about the coming edits before they take effect; None if none of them has probes.

        ``set_variant`` and errors are as in `ProbeGate.take_baseline`.
        """
        if self._gate is None or not any(edit.request.probes for edit in change.coming):
            return None
        leaving = {edit.id for edit in change.leaving}
        variant = change.variants[0]
        active = (
            edit
            for edit in reversed(self._ledger.edits())
            if edit.status is Status.ACTIVE
            and edit.id not in leaving
            and variant in self._ledger.variants_of(edit)
        )
        return await self._gate.take_baseline(change.coming, variant, active, set_variant)

    async def judge(self, baseline: Baseline | None) -> Scores:
        """Scores of the edits, which are in effect now; raises ProbesFailed if one is below."""
        if self._gate is None or baseline is None:
            return {}
        return await self._gate.judge(baseline)
