"""The commands that compose stages in one process, without DVC."""
