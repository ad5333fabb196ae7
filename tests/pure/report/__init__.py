"""Tests of what reports say, without a run."""
