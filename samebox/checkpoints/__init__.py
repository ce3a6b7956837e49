"""Reading checkpoints without running their code, and loading them strictly into a network."""
