"""What a client may ask of a list: its filters, its order and its pages."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request

from vllm_edit.api.body import validated
from vllm_edit.domain.edit import Status
from vllm_edit.domain.edit_query import EditQuery

T = TypeVar("T", bound=BaseModel)

MOST_AT_ONCE = 1000
"""Most edits or events in one answer."""


def _digits(text: Any) -> Any:
    if isinstance(text, str) and not (text.isascii() and text.isdigit()):
        raise ValueError("it must be a whole number")
    return text


Whole = Annotated[int, BeforeValidator(_digits)]
"""A whole number in the one way in which the schema has it."""


class EditListQuery(BaseModel):
    """The parameters of GET /v1/edits."""

    model_config = ConfigDict(extra="forbid")

    status: list[Status] = Field([], description="Only edits with one of these statuses.")
    method: str | None = Field(None, description="Only edits by this method.")
    edit_set: str | None = Field(None, description="Only edits of this set.")
    subject: str | None = Field(None, description="Only edits of exactly this subject.")
    order: Literal["asc", "desc"] = Field("asc", description="Oldest (asc) or latest (desc) first.")
    limit: Whole = Field(
        MOST_AT_ONCE, ge=1, le=MOST_AT_ONCE, description="Most edits in the answer."
    )
    after: str | None = Field(None, description="The id of an edit: only those behind it.")

    def query(self) -> EditQuery:
        latest = self.order == "desc"
        return EditQuery(
            self.limit, frozenset(self.status), self.method, self.edit_set, self.subject, latest
        )


class AuditQuery(BaseModel):
    """The parameters of GET /v1/edits/audit."""

    model_config = ConfigDict(extra="forbid")

    subject: str | None = Field(
        None, description="Only changes of the edit with this id, or the set with this name."
    )
    after: Whole = Field(0, ge=0, lt=1 << 63, description="A revision: only changes after it.")
    limit: Whole = Field(
        MOST_AT_ONCE, ge=1, le=MOST_AT_ONCE, description="Most changes in the answer."
    )


class ErasureQuery(BaseModel):
    """The parameters of DELETE /v1/edits/{edit_id}."""

    model_config = ConfigDict(extra="forbid")

    erase: Literal["true", "false"] = Field(
        "false", description="Also erase its texts for good; then it may have ended before."
    )


def read_query(request: Request, schema: type[T]) -> T:
    """The parameters of a request; raises InvalidEdit, with the one at fault, if they do not fit.

    One that may be repeated is a list in its schema.
    """
    lists = {n for n, f in schema.model_fields.items() if isinstance(f.default, list)}
    sent = {name: request.query_params.getlist(name) for name in request.query_params}
    one = {n: v[0] for n, v in sent.items() if len(v) == 1 and n not in lists}
    return validated(schema, sent | one)
