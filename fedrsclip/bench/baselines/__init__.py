"""Classifiers of the clients' frozen image features without any text, to compare methods with."""
