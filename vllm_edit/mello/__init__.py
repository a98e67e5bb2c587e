"""MeLLo on the served model: the hops of a question, asked of the engine."""
