"""One file a runtime: each takes the same arrays and gives the same named outputs."""
