"""What descent does: iterations run step by step, and the same ones in closed form."""

from implicit_bias.dynamics.classifier import ClassifierRun, train_classifier
from implicit_bias.dynamics.descent import gradient_descent, stochastic_gradient_descent
from implicit_bias.dynamics.ensemble import (
    EnsemblePath,
    ensemble_outputs,
    train_ensemble,
)
from implicit_bias.dynamics.exact import exact_descent, gradient_flow, perturbed_descent
from implicit_bias.dynamics.flow import margin_flow
from implicit_bias.dynamics.kicks import Perturbed, perturb_and_retrain
from implicit_bias.dynamics.langevin import (
    Langevin,
    langevin,
)
from implicit_bias.dynamics.least_squares import (
    reach_zero,
)
from implicit_bias.dynamics.linearisation import (
    linearised_flow,
    loss_flow,
)
from implicit_bias.dynamics.mirror import mirror_descent, square_descent
from implicit_bias.dynamics.mirror_flow import mirror_flow, square_flow
from implicit_bias.dynamics.network import NetworkPath, network_flow
from implicit_bias.dynamics.normalised import accelerated_descent, normalised_descent
from implicit_bias.dynamics.polynomial_layer import (
    polynomial_gradient,
)
from implicit_bias.dynamics.steepest import steepest_descent, steepest_flow
from implicit_bias.dynamics.streaming import one_pass_sgd
from implicit_bias.dynamics.stuck import Stuck
from implicit_bias.dynamics.training import TrainingPath, train
from implicit_bias.dynamics.two_layer import two_layer_gradient, two_layer_hessian, two_layer_loss
from implicit_bias.dynamics.two_layer_paths import two_layer_descent, two_layer_flow
from implicit_bias.dynamics.valley_walk import (
    ValleyWalk,
    valley_gain,
    valley_walk,
)
from implicit_bias.dynamics.wide import LinearisedNetwork, linearised_training

__all__ = [
    "ClassifierRun",
    "EnsemblePath",
    "Langevin",
    "LinearisedNetwork",
    "NetworkPath",
    "Perturbed",
    "Stuck",
    "TrainingPath",
    "ValleyWalk",
    "accelerated_descent",
    "ensemble_outputs",
    "exact_descent",
    "gradient_descent",
    "gradient_flow",
    "langevin",
    "linearised_flow",
    "linearised_training",
    "loss_flow",
    "margin_flow",
    "mirror_descent",
    "mirror_flow",
    "network_flow",
    "normalised_descent",
    "one_pass_sgd",
    "perturb_and_retrain",
    "perturbed_descent",
    "polynomial_gradient",
    "reach_zero",
    "square_descent",
    "square_flow",
    "steepest_descent",
    "steepest_flow",
    "stochastic_gradient_descent",
    "train",
    "train_classifier",
    "train_ensemble",
    "two_layer_descent",
    "two_layer_flow",
    "two_layer_gradient",
    "two_layer_hessian",
    "two_layer_loss",
    "valley_gain",
    "valley_walk",
]
