"""Editors that are trained: networks that turn the gradient of an edit into the edit's change."""
