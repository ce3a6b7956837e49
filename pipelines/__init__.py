"""Compositions of the stages: without DVC, in one process, or over many points."""
