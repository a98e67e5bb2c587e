"""The durable log of what is edited, kept in a file or in a PostgreSQL database."""

from vllm_edit.ledger.event import Entry, Event
from vllm_edit.ledger.leadership import Leadership
from vllm_edit.ledger.ledger import Ledger
from vllm_edit.ledger.log import Log
from vllm_edit.ledger.where import database_of

__all__ = ["Entry", "Event", "Leadership", "Ledger", "Log", "database_of"]
