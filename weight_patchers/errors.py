"""The errors of editing weights.

PatcherError                     code
├── InvalidEdit                  invalid_edit
│   └── ConflictingEdits         conflicting_edits
├── InvalidHyperparameters       invalid_hyperparameters
├── UnsupportedModel             unsupported_model
├── UnsupportedTokenizer         unsupported_tokenizer
├── UnreadableCheckpoint         unreadable_checkpoint
├── UnreadableText               unreadable_text
├── UnusableStatistics           unusable_statistics
├── CorruptDelta                 corrupt_delta
├── WrongBase                    wrong_base
├── UntrainedEditor              untrained_editor
├── CorruptEditor                corrupt_editor
├── UnusableTraining             unusable_training
├── CannotExport                 cannot_export
├── GovernorRefused              governor_refused
└── ComputationFailed            computation_failed

`code` is stable: programs may compare it. The message is for a person and says what to do next.
"""

from typing import ClassVar


class PatcherError(Exception):
    """Base of every error that this package raises on purpose."""

    code: ClassVar[str] = "patcher_error"


class InvalidEdit(PatcherError, ValueError):
    """The edit itself cannot be carried out, whatever the model."""

    code = "invalid_edit"


class ConflictingEdits(InvalidEdit):
    """Two edits of one batch change the same fact."""

    code = "conflicting_edits"


class InvalidHyperparameters(PatcherError, ValueError):
    """A hyperparameter is unknown, of the wrong type, or out of range."""

    code = "invalid_hyperparameters"


class UnsupportedModel(PatcherError):
    """The model has no dense MLP output projection that could be edited."""

    code = "unsupported_model"


class UnsupportedTokenizer(PatcherError):
    """The tokenizer cannot say which characters a token covers."""

    code = "unsupported_tokenizer"


class UnreadableCheckpoint(PatcherError):
    """The folder is not a Hugging Face checkpoint with safetensors weights."""

    code = "unreadable_checkpoint"


class UnreadableText(PatcherError):
    """The text to make statistics from is not there, or cannot be read."""

    code = "unreadable_text"


class UnusableStatistics(PatcherError):
    """The key statistics are missing, damaged, of another model, or cannot be inverted."""

    code = "unusable_statistics"


class CorruptDelta(PatcherError):
    """The delta file is damaged, is no delta, or is of another format version."""

    code = "corrupt_delta"


class WrongBase(PatcherError):
    """The delta was computed for another base model."""

    code = "wrong_base"


class UntrainedEditor(PatcherError):
    """The method needs an editor that was trained for this model, and there is none."""

    code = "untrained_editor"


class CorruptEditor(PatcherError):
    """The trained editor's file is damaged, is none, or is of another format version."""

    code = "corrupt_editor"


class UnusableTraining(PatcherError):
    """A trained editor cannot be trained from what was given."""

    code = "unusable_training"


class CannotExport(PatcherError):
    """The deltas cannot be written in the wanted form, or not to the wanted place."""

    code = "cannot_export"


class GovernorRefused(PatcherError):
    """The edit would move the model, with those in effect, further than its bounds allow."""

    code = "governor_refused"


class ComputationFailed(PatcherError):
    """The computation gave no usable delta (for one, a value that is not finite)."""

    code = "computation_failed"
