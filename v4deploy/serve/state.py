"""The states of a served engine, and which may follow which."""
