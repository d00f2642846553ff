"""`fedrsclip data`: find, lay out and check the images of the benchmark."""
