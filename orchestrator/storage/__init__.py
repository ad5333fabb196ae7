"""The files of a run: the only modules that write one, and that know their names."""
