"""Config files, read as plain data: nothing in them is imported, called or run."""
