"""The durable log of what is edited, kept in a file or in a PostgreSQL database."""

from vllm_edit.ledger.edit_events import EDIT
from vllm_edit.ledger.event import Entry, Event
from vllm_edit.ledger.leadership import Leadership
from vllm_edit.ledger.ledger import Ledger
from vllm_edit.ledger.log import Log
from vllm_edit.ledger.shared_deltas import SharedDeltas
from vllm_edit.ledger.store_database import LEDGER_FILE, database_of, deltas_of

__all__ = [
    "EDIT",
    "LEDGER_FILE",
    "Entry",
    "Event",
    "Leadership",
    "Ledger",
    "Log",
    "SharedDeltas",
    "database_of",
    "deltas_of",
]
