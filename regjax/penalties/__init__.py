"""Penalties as pure functions, their proximal operators, and projections.

A penalty returns Ω without its strength; an objective adds λ·Ω to the data loss and reports it
apart. Added to the loss, λ·`l2` is a coupled weight decay of 2λ for plain SGD.
"""

from regjax.penalties.functions import entropy, jacobian
from regjax.penalties.parameters import (
    PENALTIES,
    Penalty,
    elastic_net,
    group_lasso,
    l1,
    l2,
    max_norm,
    none,
    nuclear,
    orthogonality,
    scale_factor,
)
from regjax.penalties.projections import project_l1_ball, project_max_norm, project_unit
from regjax.penalties.proximal import (
    PROXIMAL,
    Prox,
    prox_elastic_net,
    prox_group_lasso,
    prox_l1,
    prox_l2,
    prox_none,
    prox_nuclear,
)

__all__ = [
    "PENALTIES",
    "PROXIMAL",
    "Penalty",
    "Prox",
    "elastic_net",
    "entropy",
    "group_lasso",
    "jacobian",
    "l1",
    "l2",
    "max_norm",
    "none",
    "nuclear",
    "orthogonality",
    "project_l1_ball",
    "project_max_norm",
    "project_unit",
    "prox_elastic_net",
    "prox_group_lasso",
    "prox_l1",
    "prox_l2",
    "prox_none",
    "prox_nuclear",
    "scale_factor",
]
