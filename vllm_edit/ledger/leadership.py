"""Which of the processes that have a store open may change what its edits are."""

import threading

from vllm_edit.domain.errors import StoreError, StoreLocked
from vllm_edit.ledger.log import Log

HANDOVER_SECONDS = 0.25
"""How often who waits to lead asks whether it may."""


class Leadership:
    """At most one process at a time leads a store; the lead ends with it, however it ends.

    Should the lead be lost while this process does not know it, its appends under ``term`` are
    refused from the moment on that another leads. ``address`` is where others reach this process.
    Used from any thread.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = log.database.lock()
        self._mutex = threading.Lock()
        self._term: int | None = None
        self.address = ""

    @property
    def term(self) -> int | None:
        """The number of the term that this process began to lead with; None if it does not."""
        return self._term

    def lead(self) -> bool:
        """Take the lead if nobody has it; whether this process leads now.

        Who has just taken it does well to catch up: the one before may have recorded more.

        Raises:
            StoreError: it cannot be found out.
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

    def wait(self, stop: threading.Event) -> bool:
        """Take the lead as soon as nobody has it; False if ``stop`` was set before that.

        A store that cannot be reached meanwhile is waited for.
        """
        while not stop.is_set():
            try:
                if self.lead():
                    return True
            except StoreError:
                pass  # Whoever needs the store itself gets to hear of it.
            stop.wait(HANDOVER_SECONDS)
        return False

    def require(self) -> None:
        """Take the lead; raises StoreLocked if another process has it."""
        if not self.lead():
            raise StoreLocked(
                f"Another server uses the edit store {self._log.database.name}. Stop that one or "
                "give this one its own --edit-store."
            )

    def held(self) -> bool:
        """Whether this process still leads, as far as the database knows."""
        with self._mutex:
            return self._term is not None and self._lock.held()

    def release(self) -> None:
        """Let another process lead."""
        with self._mutex:
            self._term = None
            self._lock.release()
