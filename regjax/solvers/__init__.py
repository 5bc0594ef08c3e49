"""Solvers of convex problems with a penalty: exact zeros, a certificate, a whole path at once.

`ista` and `fista` take any smooth loss and any proximal operator; `elastic_net_path` is the squared
loss with its own, faster loop.
"""

from regjax.solvers.elastic_net import LinearModel, alpha_max, elastic_net_path
from regjax.solvers.proximal_gradient import Solution, fista, ista

__all__ = ["LinearModel", "Solution", "alpha_max", "elastic_net_path", "fista", "ista"]
