"""IKE: facts given in the prompt, after demonstrations of how to use them."""

from retriever.ike.demonstrations import Demonstration, DemonstrationStore, load_demonstrations
from retriever.ike.editor import Ike
from retriever.ike.settings import IkeSettings

__all__ = ["Demonstration", "DemonstrationStore", "Ike", "IkeSettings", "load_demonstrations"]
