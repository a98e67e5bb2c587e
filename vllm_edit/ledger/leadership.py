"""Which of the processes with a store open may change its edits."""

import threading

from vllm_edit.domain.errors import StoreError, StoreLocked
from vllm_edit.ledger.log import Log


class Leadership:
    """At most one process at a time leads a store; its lead ends with it, however it ends.

    A process may lose the lead and not notice. Its appends under ``term`` are refused from the
    moment another process leads. ``address`` is where others reach this process. Thread-safe.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = log.database.lock()
        self._mutex = threading.Lock()
        self._term: int | None = None
        self.address = ""

    @property
    def term(self) -> int | None:
        """The number of this process's term; None while it does not lead."""
        return self._term

    def lead(self) -> bool:
        """Take the lead if nobody has it; returns whether this process leads now.

        A new leader must catch up: the one before may have recorded more. Raises StoreError if
        the store cannot be reached.
        """
        with self._mutex:
            if self._lock.held():
                return True
            self._term = None
            if not self._lock.acquire():
                return False
            try:
                self._term = self._log.begin_term(self.address)
            except StoreError:
                self._lock.release()
                raise
            return True

    def require(self) -> None:
        """Take the lead; raises StoreLocked if another process has it."""
        if not self.lead():
            raise StoreLocked(
                f"Another server uses the edit store {self._log.database.name} now; nothing was "
                "recorded. This one follows it in a moment: try again."
            )

    def held(self) -> bool:
        """Whether the database still knows this process as the leader."""
        with self._mutex:
            return self._term is not None and self._lock.held()

    def release(self) -> None:
        """Let another process lead."""
        with self._mutex:
            self._term = None
            self._lock.release()
