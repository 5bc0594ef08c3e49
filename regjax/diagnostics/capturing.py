"""What every layer of a Flax module puts out, or is given."""

from collections import OrderedDict
from typing import Any

import flax.linen as nn
import jax

from regjax import trees

COLLECTION = "diagnostics"  # of variables, where layers leave what was seen


def activations(
    module: Any, variables: Any, x: jax.Array, **options: Any
) -> OrderedDict[str, jax.Array]:
    """Returns the output of every layer (submodule) by its path, in the order of the calls.

    Of `nn.Dense` that is the pre-activation: an activation that is a function is no layer, and
    shows in what the next layer is given, `layer_inputs`. A layer called twice has `path:0` and
    `path:1`, one that returns a tree a path a leaf. Layers inside `nn.scan` are not seen, the layer
    around it is. The dict keeps its order through `jit` and `vmap`.

    Args:
      module: a `flax.linen.Module`, or anything with its `apply`.
      variables: as `module.init` gave them.
      x: its input.
      **options: of `module.apply`: `train=True`, `rngs=...`, `mutable=["batch_stats"]`.

    >>> import jax.numpy as jnp
    >>> net = nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])
    >>> x = jnp.ones((5, 4))
    >>> seen = activations(net, net.init(jax.random.key(0), x), x)
    >>> {name: h.shape for name, h in seen.items()}
    {'layers_0': (5, 3), 'layers_2': (5, 2)}
    """
    return _captured(module, variables, x, "outputs", options)


def layer_inputs(
    module: Any, variables: Any, x: jax.Array, **options: Any
) -> OrderedDict[str, jax.Array]:
    """Returns what every layer is given (its first argument), called as `activations` is.

    >>> import jax.numpy as jnp
    >>> net = nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])
    >>> x = jnp.ones((5, 4))
    >>> seen = layer_inputs(net, net.init(jax.random.key(0), x), x)
    >>> bool((seen["layers_2"] >= 0).all())  # after the ReLU
    True
    """
    return _captured(module, variables, x, "inputs", options)


def _captured(
    module: Any, variables: Any, x: jax.Array, what: str, options: dict[str, Any]
) -> OrderedDict[str, jax.Array]:
    order: dict[str, None] = {}

    def look(function: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        layer, inside = context.module, context.module.path
        if context.method_name != "__call__" or not inside:  # the module itself is no layer
            return function(*arguments, **keywords)
        given = arguments[0] if arguments else next(iter(keywords.values()), None)
        out = function(*arguments, **keywords)
        layer.sow(COLLECTION, "seen", given if what == "inputs" else out)
        order["/".join(inside)] = None
        return out

    mutable = [*options.pop("mutable", ()), COLLECTION]
    with nn.intercept_methods(look):
        _, updated = module.apply(variables, x, mutable=mutable, **options)
    found = OrderedDict()
    for layer in order:
        calls = _at(updated.get(COLLECTION, {}), layer)
        for number, call in enumerate(calls):
            name = layer if len(calls) == 1 else f"{layer}:{number}"
            for inner, leaf in trees.named(call).items():
                found[f"{name}/{inner}" if inner else name] = leaf
    return found


def _at(tree: Any, layer: str) -> tuple[Any, ...]:
    """What a layer has left; nothing, if that was inside a loop."""
    for part in layer.split("/"):
        tree = tree.get(part, {})
    return tree.get("seen", ())
