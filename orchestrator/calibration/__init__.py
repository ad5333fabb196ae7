"""A calibration set → what it is like, and what speaks against it."""
