"""Finished runs, read back: one, several, over time, and how far one is."""
