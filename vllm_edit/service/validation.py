"""Checks requests for edits: a fact is data, not instruction, and of limited length."""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from retriever.text import joins_letters
from vllm_edit.domain.edit import EditRequest
from vllm_edit.domain.errors import InvalidEdit
from vllm_edit.domain.probe import Probes
from vllm_edit.settings import Settings
from weight_patchers.word_border import whole_places

FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that no fact may contain: controls, invisible formatting, line separators.

Zero-width joiners between letters that they join are allowed.
"""


@dataclass(frozen=True)
class EditValidator:
    """Checks requests before anything is recorded.

    ``methods`` are those that this server offers. ``special_tokens`` are the strings by which the
    served model's tokenizer marks turns and ends; a fact must not bring them into a prompt.
    """

    settings: Settings
    methods: Collection[str]
    special_tokens: Collection[str]

    def check(self, request: EditRequest) -> None:
        """Raise InvalidEdit, naming the field, for the first rule the request breaks."""
        if request.method not in self.methods:
            raise InvalidEdit(
                f"There is no method {request.method!r} here; choose one of "
                f"{', '.join(sorted(self.methods))}.",
                code="unknown_method",
                field="method",
            )
        limits = self.settings
        self._check_text("prompt", request.prompt, limits.max_prompt_chars)
        self._check_text("subject", request.subject, limits.max_prompt_chars)
        self._check_text("target_new", request.target_new, limits.max_target_chars)
        if request.ground_truth is not None:
            self._check_text("ground_truth", request.ground_truth, limits.max_target_chars)
        for alias in request.aliases:
            self._check_text("aliases", alias, limits.max_prompt_chars)
        if request.user is not None:
            self._check_text("user", request.user, limits.max_prompt_chars)
        self._check_probes(request)
        if not any(True for _ in whole_places(request.prompt, request.subject)):
            raise InvalidEdit(
                f"The prompt {request.prompt!r} does not contain the subject "
                f"{request.subject!r} as whole words; write the subject exactly as the prompt "
                "has it.",
                code="subject_not_in_prompt",
                field="subject",
            )

    def _check_probes(self, request: EditRequest) -> None:
        if request.probes is None:
            return
        self.check_probes(request.probes)
        if changed := {request.prompt, *request.probes.rephrasings} & {*request.probes.unchanged}:
            raise InvalidEdit(
                f"The answer to {changed.pop()!r} cannot both change and stay as it is; take it "
                "out of probes.unchanged.",
                code="contradictory_probes",
                field="probes.unchanged",
            )

    def check_probes(self, probes: Probes) -> None:
        """Raise InvalidEdit, naming the field, for the first rule that a prompt breaks."""
        for name in ("rephrasings", "unchanged"):
            for prompt in getattr(probes, name):
                self._check_text(f"probes.{name}", prompt, self.settings.max_prompt_chars)

    def _check_text(self, field: str, text: str, limit: int) -> None:
        if not text.strip():
            raise InvalidEdit(
                f"{field} is empty; say what it should be.", code="empty", field=field
            )
        if len(text) > limit:
            raise InvalidEdit(
                f"{field} has {len(text)} characters and at most {limit} are accepted; shorten it.",
                code="too_long",
                field=field,
            )
        for at, char in enumerate(text):
            if unicodedata.category(char) in FORBIDDEN_CATEGORIES and not joins_letters(text, at):
                raise InvalidEdit(
                    f"{field} contains the character U+{ord(char):04X}, which no fact may hold; "
                    "write it as one line of plain text.",
                    code="forbidden_character",
                    field=field,
                )
        for token in self.special_tokens:
            if token in text:
                raise InvalidEdit(
                    f"{field} contains {token!r}, a special token of the served model; remove it.",
                    code="special_token",
                    field=field,
                )
