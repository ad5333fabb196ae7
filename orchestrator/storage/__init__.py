"""The files of a run: what is written as it goes, and shards → the tables of all."""
