"""How good a classifier is on labelled images that are here, and whether it is better than CLIP."""
