"""`fedrsclip predict`: the classes of any number of images, as a table or a file."""
