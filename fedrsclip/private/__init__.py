"""What clients of this machine keep for themselves: listed, exported, deleted."""
