"""Maps from parameters to functions."""

from implicit_bias.models.polynomial import chebyshev_nodes, polynomial_features

__all__ = ["chebyshev_nodes", "polynomial_features"]
