"""Image files: what they hold by their own headers, and how they become RGB pictures."""
