"""A method whose every step a test can hold up or make fail, under a service on a real ledger."""

import asyncio
from collections.abc import Hashable, Sequence

from vllm_edit.domain.edit import Edit, EditRequest
from vllm_edit.domain.errors import ComputeFailed, SwapFailed, TargetNotReached
from vllm_edit.domain.method import EditsByVariant, MethodChange
from vllm_edit.domain.neuron import Neuron
from vllm_edit.domain.variant import DEFAULT


def request(
    fact: str, target: str = "Y", method: str = "single", **more: str | None
) -> EditRequest:
    return EditRequest(method, f"The {fact} of X is", "X", target, **more)


class Steered:
    """Remembers its effects, and what it computed for: the ids of the edits coming in each."""

    names = frozenset({"single", "batch"})
    batched = frozenset({"batch"})
    queued = True
    asked = names
    must_tell = names

    def __init__(self) -> None:
        self.computing = asyncio.Event()
        self.may_compute = asyncio.Event()
        self.may_compute.set()
        self.unable = False
        self.unreachable: set[str] = set()
        self.broken = False
        self.most = 100
        self.seen: dict[str, list[str]] = {}
        self.known: dict[str, Edit] = {}
        self.tidied: list[str] = []
        self.revisions: list[int] = []
        self.computed: list[list[str]] = []
        self.forgotten: list[str] = []
        self.renewed: list[str] = []

    def labels(self, variant: str) -> Sequence[str]:
        return ()

    def check(self, requests: Sequence[EditRequest]) -> None:
        pass

    def fact(self, request: EditRequest) -> Hashable:
        return request.prompt

    def warnings(self, edit_id: str) -> Sequence[str]:
        return ()

    def drift(self, edit_id: str) -> float | None:
        return None

    def neurons(self, edit_id: str) -> Sequence[Neuron]:
        return ()

    def places(self, edit_id: str) -> frozenset[str]:
        return frozenset({"layer"})

    def take_renewed(self) -> Sequence[str]:
        renewed, self.renewed = self.renewed, []
        return renewed

    async def prepare(self) -> None:
        pass

    @property
    def edits_by_variant(self) -> EditsByVariant:
        return {v: [self.known[i] for i in ids] for v, ids in self.seen.items()}

    def serves(self, edit_id: str) -> bool:
        return any(edit_id in ids for ids in self.seen.values())

    async def tidy(self, edits: Sequence[Edit]) -> None:
        self.tidied = [edit.id for edit in edits]

    async def compute(self, change: MethodChange) -> list[str]:
        coming = [edit.id for edit in change.coming]
        if coming or change.leaving:
            self.computed.append(coming)
            self.computing.set()
        if coming:
            await self.may_compute.wait()
        if self.unable and (coming or change.leaving):
            raise ComputeFailed("The editor is out of order.")
        if missed := self.unreachable.intersection(self._after(change, change.variants[0])):
            reasons = {edit_id: f"{edit_id} is missed." for edit_id in missed}
            raise TargetNotReached(" ".join(reasons.values()), reasons=reasons)
        return coming

    @property
    def effective(self) -> list[str]:
        """The edits that default traffic sees."""
        return self.seen.get(DEFAULT, [])

    def _after(self, change: MethodChange, variant: str) -> list[str]:
        leaving = {edit.id for edit in change.leaving}
        stay = [edit_id for edit_id in self.seen.get(variant, []) if edit_id not in leaving]
        return stay + [edit.id for edit in change.coming]

    def ready(self, change: MethodChange, computed: list[str]) -> bool:
        return computed == [edit.id for edit in change.coming]

    async def apply(self, change: MethodChange, computed: list[str], revision: int) -> None:
        if self.broken or len(change.coming) > self.most:
            raise SwapFailed("The engine is out of order.")
        self.known |= {edit.id: edit for edit in change.coming}
        self.seen |= {variant: self._after(change, variant) for variant in change.variants}
        if change.coming or change.leaving:
            self.revisions.append(revision)

    async def drop(self, variant: str) -> None:
        del self.seen[variant]

    async def forget(self, edits: Sequence[Edit]) -> None:
        self.forgotten += [edit.id for edit in edits]

    async def close(self) -> None:
        pass
