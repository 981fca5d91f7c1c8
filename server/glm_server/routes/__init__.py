"""The routes, one module per protocol."""
