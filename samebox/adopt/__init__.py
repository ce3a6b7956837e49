"""Other frameworks' configs, read as data and told in this project's terms."""
