"""Finds hyperparameters for a model by making edits of facts that it tells, and asking it."""
