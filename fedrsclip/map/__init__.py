"""A georeferenced scene of any size, classified window by window, and what is made of that."""
