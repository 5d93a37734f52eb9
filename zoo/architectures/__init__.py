"""The architectures: one file per family, read from top to bottom."""
