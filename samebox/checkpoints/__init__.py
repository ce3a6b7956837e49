"""Checkpoints: safe reading, strict loading."""
