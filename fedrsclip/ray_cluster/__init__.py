"""Ray clusters, made by `ray start`: joining one, checking its nodes, simulating on it.

A benchmark's cells run there (``bench.engine=ray``), or the clients of a simulation
(``federation.ray_address``).
"""
