"""Flower's ``flwr-simulation``, whose clients compute on a Ray cluster."""

from fedrsclip.ray_cluster.flower_internals import main

main()
