"""The commands of `glmctl`: each module exposes `command`."""
