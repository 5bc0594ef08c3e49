"""What a network does, looked at from outside: layers, gradients, curvature, errors.

Pure functions of arrays, trees and `loss(params) -> scalar`, for any network; they `jit` and, over
seeds or lanes, `vmap` (but for `power_law`, which is NumPy). `h` is a layer's `(..., units)`.
"""

from regjax.diagnostics.capturing import activations, layer_inputs
from regjax.diagnostics.decomposition import Squared, ZeroOne, bias_variance
from regjax.diagnostics.gradients import example_gradient_norms, first_to_last, gradient_norms
from regjax.diagnostics.landscape import Smoothness, smoothness
from regjax.diagnostics.reliability import Reliability, calibration
from regjax.diagnostics.sharpness import (
    hessian_vector,
    ritz_values,
    sam_sharpness,
    top_eigenvalue,
)
from regjax.diagnostics.shifting import GradientShift, MomentShift, covariate_shift, moment_shift
from regjax.diagnostics.sizes import PowerLaw, nested_subsets, power_law
from regjax.diagnostics.units import (
    Statistics,
    dead_units,
    distinct_units,
    effective_rank,
    numerical_rank,
    saturation,
    statistics,
)
from regjax.diagnostics.zeros import Sparsity, sparsity, sparsity_by_path

__all__ = [
    "GradientShift",
    "MomentShift",
    "PowerLaw",
    "Reliability",
    "Smoothness",
    "Sparsity",
    "Squared",
    "Statistics",
    "ZeroOne",
    "activations",
    "bias_variance",
    "calibration",
    "covariate_shift",
    "dead_units",
    "distinct_units",
    "effective_rank",
    "example_gradient_norms",
    "first_to_last",
    "gradient_norms",
    "hessian_vector",
    "layer_inputs",
    "moment_shift",
    "nested_subsets",
    "numerical_rank",
    "power_law",
    "ritz_values",
    "sam_sharpness",
    "saturation",
    "smoothness",
    "sparsity",
    "sparsity_by_path",
    "statistics",
    "top_eigenvalue",
]
