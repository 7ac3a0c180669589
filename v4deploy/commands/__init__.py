"""One function a command: a request in, a frozen result out. Nothing is printed here."""
