"""The engine side of a weight edit: what runs in each vLLM worker, and what drives it."""
