"""Inputs and devices → what runs where, in which shards. Pure."""
