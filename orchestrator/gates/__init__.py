"""Criteria that a comparison is held against: words → gates → verdicts → a recommendation."""
