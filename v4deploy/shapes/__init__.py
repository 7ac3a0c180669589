"""Model files of the true V4 architecture: a tiny one with random weights, and full size ones without weights."""
