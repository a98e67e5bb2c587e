"""IKE: facts given in the prompt, after demonstrations of how to use them."""

from retriever.ike.demonstrations import (
    Demonstration,
    DemonstrationStore,
    load_demonstrations,
    shipped_demonstrations,
)
from retriever.ike.editor import Ike
from retriever.ike.prompt_form import PromptForm, PromptForms, forms_for, load_prompt_forms
from retriever.ike.settings import IkeSettings

__all__ = [
    "Demonstration",
    "DemonstrationStore",
    "Ike",
    "IkeSettings",
    "PromptForm",
    "PromptForms",
    "forms_for",
    "load_demonstrations",
    "load_prompt_forms",
    "shipped_demonstrations",
]
