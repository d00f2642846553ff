"""What is learned and how: prompts, losses, training, evaluation."""
