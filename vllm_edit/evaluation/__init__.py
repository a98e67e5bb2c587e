"""``vllm-edit evaluate``: edits judged as the field does, on the server that serves them."""
