"""Used by all other folders: errors, files, downloads, and facts about the machine and its GPUs."""
