"""`fedrsclip watch`: a run or a benchmark, shown while it is running."""
