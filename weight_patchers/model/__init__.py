"""A Transformers decoder as editing sees it: its layers, its tokens, and passes through it."""
