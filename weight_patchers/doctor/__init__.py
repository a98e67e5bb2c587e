"""What can be known of a model before it is edited: which layers, at what cost, and what will not
work."""
