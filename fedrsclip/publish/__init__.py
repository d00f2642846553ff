"""A run's result as a folder that a model hub takes, with nothing of its clients in it."""
