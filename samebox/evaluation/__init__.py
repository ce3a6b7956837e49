"""A detector on a data set: scores, times, memory, invariance checks, agreement of two forms, proposals."""
