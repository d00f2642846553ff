"""`fedrsclip run`: one simulated federation from overrides to results."""
