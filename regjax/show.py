"""A config looked at before it is trained: its fields, and every parameter of its network."""

from rich.table import Table
from rich.text import Text

from regjax import config as config_lib
from regjax import optimizer, trees
from regjax.assembly import Assembled
from regjax.models import initializer_name

# What a config's masks are about.
MASKS = {
    "penalty.mask": "penalized",
    "optimizer.decay_mask": "decayed",
    "constraint.mask": "constrained",
}


def fields(config: config_lib.Config) -> Table:
    """Every field of a config with its value."""
    made = Table("field", "value", title="config")
    for name, value in config_lib.flatten(config):
        made.add_row(name, Text(repr(value)))
    return made


def parameters(parts: Assembled) -> Table:
    """Every parameter: path, shape, count, initializer, and what the config does to it."""
    params = parts.shapes().train.params
    rules = optimizer.rules(parts.config)
    covered = [trees.names(params, rules[field]) if field in rules else [] for field in MASKS]
    made = Table("parameter", "shape", title="parameters", show_footer=True)
    made.columns[0].footer, made.columns[0].overflow = "total", "fold"
    made.add_column("count", justify="right", footer=f"{trees.count(params):,}")
    for name in ("initializer", *MASKS.values()):
        made.add_column(name)
    for name, leaf in trees.named(params).items():
        made.add_row(
            Text(name),
            " × ".join(map(str, leaf.shape)),
            f"{leaf.size:,}",
            initializer_name(name, parts.config.model),
            *("yes" if name in names else "no" for names in covered),
        )
    return made
