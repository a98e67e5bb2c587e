"""IKE: facts given in the prompt, after demonstrations of how to use them."""

from retriever.ike.demonstrations import Demonstration, DemonstrationStore, load_demonstrations

__all__ = ["Demonstration", "DemonstrationStore", "load_demonstrations"]
