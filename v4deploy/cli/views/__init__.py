"""How each result looks to a person: one module a kind of result."""
