"""Where theory says that the dynamics end, by solvers that know nothing of descent."""

from implicit_bias.limits.interpolation import minimum_norm, ridge

__all__ = ["minimum_norm", "ridge"]
