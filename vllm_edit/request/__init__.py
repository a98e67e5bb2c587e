"""What happens to a request before vLLM answers it: its variant, its facts, its headers."""
