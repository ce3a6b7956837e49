"""A detector over a data set: evaluation, invariance, agreement of answers, proposals."""
