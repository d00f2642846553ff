"""The client: trains both prompts on its own images, keeps the private one."""
