"""What each choice of `conf/runtime` runs: config and artifact in, runner out.

A module for each package that it takes: those that do without PyTorch start two seconds sooner.
"""
