"""A config looked at before it is trained: its fields, and every parameter of its network."""

import jax
from rich.table import Table

from regjax import config as config_lib
from regjax import trees
from regjax.models import initializer_name
from regjax.train import Assembled


def fields(config: config_lib.Config) -> Table:
    """Every field of a config with its value."""
    made = Table("field", "value", title="config")
    for name, value in config_lib.flatten(config):
        made.add_row(name, repr(value))
    return made


def parameters(parts: Assembled) -> Table:
    """Every parameter: path, shape, count, initializer, whether penalized, whether decayed."""
    config, params = parts.config, parts.shapes().train.params
    penalized = trees.mask(params, config.penalty.mask)
    decayed = trees.mask(params, config.optimizer.decay_mask)
    has_penalty, has_decay = config.penalty.name != "none", config.optimizer.weight_decay > 0
    made = Table("parameter", "shape", title="parameters", show_footer=True)
    made.columns[0].footer = "total"
    made.add_column("count", justify="right", footer=f"{trees.count(params):,}")
    for name in ("initializer", "penalized", "decayed"):
        made.add_column(name)
    rows = zip(
        jax.tree_util.tree_leaves_with_path(params),
        jax.tree.leaves(penalized),
        jax.tree.leaves(decayed),
        strict=True,
    )
    for (path, leaf), penalize, decay in rows:
        name = trees.path_name(path)
        made.add_row(
            name,
            " × ".join(map(str, leaf.shape)),
            f"{leaf.size:,}",
            initializer_name(name, config.model),
            "yes" if has_penalty and penalize else "no",
            "yes" if has_decay and decay else "no",
        )
    return made
