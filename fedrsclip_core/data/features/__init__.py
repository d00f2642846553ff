"""Image features on disk: each image is encoded once."""
