"""Several servers on one store: one leads, the others follow it."""
