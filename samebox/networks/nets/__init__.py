"""One file a family of networks; what they have in common is in `contract`."""
