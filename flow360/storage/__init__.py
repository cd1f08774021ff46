"""Layer 5: query plans, backup and restore."""
