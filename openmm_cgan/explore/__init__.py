"""explore: the whole circle, decided by what has been measured."""
