"""Shards' tables → the figures of a comparison. Pure."""
