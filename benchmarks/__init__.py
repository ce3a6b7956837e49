"""Measured speed, memory and accuracy of forms, and what the pipeline adds to the bare network."""
