"""`fedrsclip bench`: a grid of runs, and the tables that are made of them."""
