"""`fedrsclip watch`: a run or a benchmark that goes on, shown as it goes."""
