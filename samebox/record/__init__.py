"""The record that travels with a network, and its rules for pre-processing and decoding."""
