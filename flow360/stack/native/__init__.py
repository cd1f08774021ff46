"""The engine that runs the stack as plain processes of this user."""
