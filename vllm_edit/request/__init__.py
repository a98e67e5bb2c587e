"""The way of a request: which variant it sees, which facts are put in front of it."""
