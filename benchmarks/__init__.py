"""Measurements that the documentation's figures come from; each is a command anyone can run."""
