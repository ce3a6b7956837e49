"""The runner of each runtime, named by the `_target_` in its config: from a config and an artifact.

One module for each package that is imported: a stage that needs no PyTorch starts two seconds sooner.
"""
