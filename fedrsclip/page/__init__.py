"""Pages that open without a network: what all of them are made with."""
