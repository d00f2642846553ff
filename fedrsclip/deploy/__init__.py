"""A federation description becomes what each host of a deployment needs."""
