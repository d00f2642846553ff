"""The folder of a run, and how files are written."""
