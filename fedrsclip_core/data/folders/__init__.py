"""Folders of images, and lists of them."""
