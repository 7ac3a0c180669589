"""Weights for machines without a network: one tar stream in parts of a chosen size, with an index of every hash."""
