"""Edits spread over several layers: what MEMIT, PMET, EMMET and AlphaEdit share."""
