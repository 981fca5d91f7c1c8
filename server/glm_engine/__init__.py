"""The engine side: checkpoints, conversion, artifacts, and the handle of the compiled engine."""

__version__ = "0.1.0"
