"""Data sets of the HuggingFace hub, or local copies of such: one image source."""
