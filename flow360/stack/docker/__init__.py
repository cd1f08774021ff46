"""The engine that runs the stack in containers."""
