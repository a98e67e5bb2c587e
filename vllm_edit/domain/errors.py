"""Every error this package raises on purpose.

    EditError
    ├── InvalidEdit          the request for an edit breaks a rule; nothing was changed
    ├── InvalidEditSet       the request for an edit set breaks a rule
    ├── InvalidSplit         the rule for splitting traffic is invalid
    ├── InvalidChoice        the request chooses two variants, or an invalid revision
    ├── InvalidTrainingData  the data to train a model on cannot be read
    ├── InvalidData          the data to judge edits by cannot be read
    ├── BodyTooLarge         the request is longer than the server accepts
    ├── Unauthorized         the request lacks the admin key
    ├── Forbidden            this is not allowed here, or not from there
    ├── Unknown              there is no such thing
    │   ├── UnknownEdit      no edit has that id
    │   ├── UnknownEditSet   no edit set has that name
    │   ├── UnknownVariant   no variant of the model has that name
    │   └── UnknownSplit     default traffic is not split
    ├── ConflictingState     the state of the edit or set does not allow this
    ├── ComputeFailed        the editor could not compute a delta
    │   ├── TargetNotReached the edited model does not answer with the target
    │   └── AnsweredBadly    with the edit in effect the server answers badly
    │       ├── NotTold      it does not answer the edit's own prompt with the target
    │       └── ProbesFailed the probes of an edit were answered badly
    ├── SwapFailed           the engine refused new weights and serves what it served before
    │   └── NoSpareUnits     an MLP has fewer spare inner units than the live edits need
    ├── Unavailable          this server cannot do it now, or was not started for it
    │   ├── RoutingFailed              it went wrong to see which edits concern a request
    │   ├── VariantUnavailable         one variant cannot be served
    │   └── CounterfactualUnavailable  the model that answers for SERAC cannot be reached
    ├── CounterfactualFailed that model was reached and did not answer
    ├── Overloaded           too much is asked for at once; try again later
    │   ├── RateLimited      this client asks too often
    │   ├── QueueFull        too many edits are waiting
    │   ├── RouteOverBudget  routing the request took too long
    │   └── RevisionNotReached  the revision that the request asks for is not in effect yet
    ├── InternalError        something failed that nobody foresaw; the log says what
    └── StoreError           the edit store cannot be used
        ├── StoreLocked      another server has it open
        └── StoreReplaced    it is not the store that was there before

Each has a stable ``code`` for programs and a message that says what to do next. The HTTP statuses
are in one table, ``vllm_edit.http_errors``.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vllm_edit.domain.own_answers import OwnAnswers
from vllm_edit.domain.probe import Score

_NONE: Mapping[str, str] = MappingProxyType({})
_UNSCORED: Mapping[str, Sequence[Score]] = MappingProxyType({})
_UNASKED: Mapping[str, OwnAnswers] = MappingProxyType({})


class EditError(Exception):
    """Base of the tree.

    Args:
        message: a sentence that says what is wrong and what to do next.
        code: a stable word for programs; each class has a default.
        field: the request field at fault, if one is.
    """

    code = "edit_error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.field = field


class InvalidEdit(EditError):
    code = "invalid_edit"


class InvalidEditSet(EditError):
    code = "invalid_edit_set"


class InvalidSplit(EditError):
    code = "invalid_split"


class InvalidChoice(EditError):
    code = "conflicting_variants"


class InvalidTrainingData(EditError):
    code = "invalid_training_data"


class InvalidData(EditError):
    code = "invalid_data"


class BodyTooLarge(EditError):
    code = "body_too_large"


class Unauthorized(EditError):
    code = "admin_key_required"


class Forbidden(EditError):
    code = "forbidden"


class Unknown(EditError):
    code = "unknown"


class UnknownEdit(Unknown):
    code = "unknown_edit"


class UnknownEditSet(Unknown):
    code = "unknown_edit_set"


class UnknownVariant(Unknown):
    code = "unknown_variant"


class UnknownSplit(Unknown):
    code = "unknown_split"


class ConflictingState(EditError):
    code = "conflicting_state"


class ComputeFailed(EditError):
    """``reasons`` says, by id, what is wrong with each edit at fault.

    If it is empty, the change as a whole cannot be made.
    """

    code = "compute_failed"

    def __init__(
        self, message: str, *, code: str | None = None, reasons: Mapping[str, str] = _NONE
    ) -> None:
        super().__init__(message, code=code)
        self.reasons = reasons


class TargetNotReached(ComputeFailed):
    code = "target_not_reached"


class AnsweredBadly(ComputeFailed):
    """``scores`` and ``told`` are what was found out about edits, by id.

    ``retry_alone`` says whether the edits in ``reasons`` may pass if they take effect alone.
    """

    code = "answered_badly"

    def __init__(
        self,
        message: str,
        *,
        reasons: Mapping[str, str] = _NONE,
        scores: Mapping[str, Sequence[Score]] = _UNSCORED,
        told: Mapping[str, OwnAnswers] = _UNASKED,
        retry_alone: bool = True,
    ) -> None:
        super().__init__(message, reasons=reasons)
        self.scores = scores
        self.told = told
        self.retry_alone = retry_alone


class NotTold(AnsweredBadly):
    code = "not_told"


class ProbesFailed(AnsweredBadly):
    code = "probes_failed"


class SwapFailed(EditError):
    code = "swap_failed"


class NoSpareUnits(SwapFailed):
    code = "no_spare_units"


class Unavailable(EditError):
    code = "unavailable"


class RoutingFailed(Unavailable):
    code = "routing_failed"


class VariantUnavailable(Unavailable):
    code = "variant_unavailable"


class CounterfactualUnavailable(Unavailable):
    code = "counterfactual_unavailable"


class CounterfactualFailed(EditError):
    code = "counterfactual_failed"


class Overloaded(EditError):
    """``retry_after`` is in seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Overloaded):
    code = "rate_limited"


class QueueFull(Overloaded):
    code = "queue_full"


class RouteOverBudget(Overloaded):
    code = "route_over_budget"


class RevisionNotReached(Overloaded):
    code = "revision_not_reached"


class InternalError(EditError):
    code = "internal_error"

    @classmethod
    def of(cls, error: Exception) -> "InternalError":
        """The error for people that stands for one that nobody foresaw."""
        return cls(
            f"The server failed at this ({type(error).__name__}: {error}). Its log says where; "
            "try again, and report it if it happens again."
        )


class StoreError(EditError):
    code = "store_error"


class StoreLocked(StoreError):
    code = "store_locked"


class StoreReplaced(StoreError):
    code = "store_replaced"


def unknown_edit(edit_id: str) -> UnknownEdit:
    """The error for an edit that does not exist, or that the client may not see."""
    return UnknownEdit(f"No edit has the id {edit_id!r}; GET /v1/edits lists them.")


def unknown_edit_set(name: str) -> UnknownEditSet:
    """The error for a set that does not exist, or that the client may not see."""
    return UnknownEditSet(
        f"There is no edit set {name!r}; GET /v1/edit-sets lists them, POST makes one.",
        field="edit_set",
    )
