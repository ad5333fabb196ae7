"""What driver and actors agree on: all of this package that `actors` may import."""
