"""One module for each runtime: all take the same arrays and return the same named outputs."""
