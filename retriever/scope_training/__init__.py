"""Training and evaluation of scope classifiers. Nothing here is imported by a server."""
