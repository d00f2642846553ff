"""What a run learned, as something that classifies images: loaded, and applied to many."""
