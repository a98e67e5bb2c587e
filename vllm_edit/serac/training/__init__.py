"""Trains counterfactual models."""
