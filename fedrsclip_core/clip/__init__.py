"""The frozen CLIP: its files, its text path and its image path."""
