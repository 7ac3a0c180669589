"""Weights that are on this machine already are taken over instead of fetched: found, hashed, then linked or copied."""
