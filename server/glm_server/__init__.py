"""The HTTP server on top of ``glm_engine``."""
