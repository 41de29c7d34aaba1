"""What descent does: iterations run step by step, and the same ones in closed form."""

from implicit_bias.dynamics.descent import gradient_descent, stochastic_gradient_descent
from implicit_bias.dynamics.exact import exact_descent, gradient_flow, perturbed_descent
from implicit_bias.dynamics.streaming import one_pass_sgd

__all__ = [
    "exact_descent",
    "gradient_descent",
    "gradient_flow",
    "one_pass_sgd",
    "perturbed_descent",
    "stochastic_gradient_descent",
]
