"""Weights onto the disk: listed at a commit, fetched, hashed, written down; and the offline proof that they are so."""
