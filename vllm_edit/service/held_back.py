"""Edits that the ledger records as active and that this server cannot bring into effect."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from vllm_edit.domain.edit import Edit, Failure, Status
from vllm_edit.domain.errors import ComputeFailed, EditError, StoreError
from vllm_edit.domain.method import EditsByVariant, Method, MethodChange
from vllm_edit.service.jobs import group_by, reasons_of

logger = logging.getLogger(__name__)


class HeldBack:
    """Applies what the ledger records, edit by edit if need be, and knows those left out.

    They stay active in the ledger, so that a start with the right base or files finds them there.
    """

    def __init__(self) -> None:
        self._failures: dict[str, Failure] = {}

    def __contains__(self, edit_id: str) -> bool:
        return edit_id in self._failures

    def failure(self, edit_id: str) -> Failure:
        """Why an edit is held back."""
        return self._failures[edit_id]

    def forget(self, edit_id: str) -> None:
        """Take an edit out that has come into effect or has ended."""
        self._failures.pop(edit_id, None)

    def shown(self, edit: Edit) -> Edit:
        """The edit with the state that it has on this server."""
        failure = self._failures.get(edit.id)
        if failure is None or edit.status is not Status.ACTIVE:
            return edit
        return replace(edit, status=Status.WAITING, failure=failure)

    def all_shown(self, edits: list[Edit]) -> list[Edit]:
        """The edits with the states that they have on this server."""
        return [self.shown(edit) for edit in edits] if self._failures else edits

    def without(self, edits: EditsByVariant) -> EditsByVariant:
        """Those of the edits, all that are active, that are to be in effect."""
        return {v: [e for e in those if e.id not in self._failures] for v, those in edits.items()}

    def hold(self, reasons: Mapping[str, str], code: str) -> None:
        """Leave these edits out, with the reasons by id."""
        for edit_id, reason in reasons.items():
            logger.error("%s is not in effect: %s", edit_id, reason)
            self._failures[edit_id] = Failure(code, reason)

    async def apply(self, method: Method, change: MethodChange, revision: int) -> None:
        """Make a change effective, as far as that is possible.

        Raises StoreError, and the error of a change of which no single edit is the cause.
        """
        try:
            await method.apply(change, await method.compute(change), revision)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - it is told of the edits
            # Whatever one edit holds, the server must start, with the others in effect.
            failed = error if isinstance(error, EditError) else _unexpected(error)
            await self._apply_others(method, change, revision, failed)

    async def _apply_others(
        self, method: Method, change: MethodChange, revision: int, error: EditError
    ) -> None:
        """Apply the parts of a change that failed as a whole."""
        if reasons := reasons_of(error, change.coming):
            self.hold(reasons, error.code)
            others = [edit for edit in change.coming if edit.id not in reasons]
            await self.apply(method, replace(change, coming=others), revision)
            return
        parts = group_by(change.coming, lambda edit: edit.group)
        if not parts or not method.queued:
            raise error
        if len(parts) == 1:
            self.hold(dict.fromkeys((edit.id for edit in parts[0]), error.message), error.code)
            parts = []
        await self.apply(method, replace(change, coming=()), revision)
        for part in parts:
            await self.apply(method, replace(change, coming=part, leaving=()), revision)


def _unexpected(error: Exception) -> ComputeFailed:
    logger.error("Edits of the store could not be brought into effect.", exc_info=error)
    return ComputeFailed(f"It could not be brought into effect ({error!r}).")
