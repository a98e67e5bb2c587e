"""SERAC: a counterfactual model answers requests that edits concern (Mitchell et al. 2022)."""
