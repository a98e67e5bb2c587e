"""Errors of the retriever. Each has a stable `code` and a message that says what to do next.

RetrieverError
├── InvalidFactError           empty_field, control_character, too_long, too_many_aliases,
│                         subject_not_in_prompt
├── InvalidDemonstrationError  invalid_demonstration
├── InvalidPromptFormError     invalid_prompt_form
├── InvalidHopFormatError      invalid_hop_format
├── InvalidSettingsError       invalid_settings
├── DuplicateFactError         duplicate_fact
├── UnknownFactError           unknown_fact
├── EncoderUnavailableError    encoder_unavailable
├── InvalidTrainingDataError   invalid_training_data
└── InvalidClassifierError     invalid_classifier
"""


class RetrieverError(Exception):
    """Base of every error this package raises on purpose."""

    code = "retriever_error"


class InvalidFactError(RetrieverError, ValueError):
    """A fact that cannot be stored. `field` names the offending field."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class InvalidDemonstrationError(RetrieverError, ValueError):
    """A demonstration, or a file of them, that cannot be read."""

    code = "invalid_demonstration"


class InvalidPromptFormError(RetrieverError, ValueError):
    """A form of prompts, or a file of them, that cannot be used."""

    code = "invalid_prompt_form"


class InvalidHopFormatError(RetrieverError, ValueError):
    """A file of labels for MeLLo's lines that cannot be read."""

    code = "invalid_hop_format"


class InvalidSettingsError(RetrieverError, ValueError):
    """A setting outside its range."""

    code = "invalid_settings"


class DuplicateFactError(RetrieverError, ValueError):
    """A fact with this id is already stored."""

    code = "duplicate_fact"

    def __init__(self, fact_id: str) -> None:
        super().__init__(f"Fact {fact_id!r} is already stored; remove it first or use a new id.")
        self.fact_id = fact_id


class UnknownFactError(RetrieverError, KeyError):
    """No fact with this id is stored."""

    code = "unknown_fact"

    def __init__(self, fact_id: str) -> None:
        super().__init__(f"No fact {fact_id!r} is stored; check the id.")
        self.fact_id = fact_id

    def __str__(self) -> str:
        return str(self.args[0])


class EncoderUnavailableError(RetrieverError, RuntimeError):
    """The sentence encoder could not be loaded."""

    code = "encoder_unavailable"


class InvalidTrainingDataError(RetrieverError, ValueError):
    """Training data of a scope classifier that cannot be read, or a folder without any."""

    code = "invalid_training_data"


class InvalidClassifierError(RetrieverError, ValueError):
    """The file of a scope classifier that is damaged or was made for another base model."""

    code = "invalid_classifier"
