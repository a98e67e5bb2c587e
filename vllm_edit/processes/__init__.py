"""Starting processes, and what they need from the machine."""
