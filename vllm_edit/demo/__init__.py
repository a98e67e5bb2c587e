"""``vllm-edit demo``: a fact corrected in a running server, both ways, and taken back."""
