"""What client and server tell each other."""
