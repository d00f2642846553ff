"""A simulated federation without Ray and SuperLink: Flower's grid over handlers on this machine."""
