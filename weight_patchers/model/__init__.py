"""A Transformers decoder for editing: its layers, its tokens, and passes through it."""
