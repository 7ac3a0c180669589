"""The offline proof that weights are right: what should be there and who says so, and what was found."""
