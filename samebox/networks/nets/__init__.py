"""Network families, one file each; `contract` is their common interface."""
