"""Figures → pictures, in the page's colours or a file's."""
