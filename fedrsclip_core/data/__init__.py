"""Images, labels, splits, partitions and cached features of one client."""
