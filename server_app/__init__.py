"""The server: averages shared prompts, sees nothing else."""
