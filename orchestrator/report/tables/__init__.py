"""Figures → the tables that every page, file and terminal shows."""
