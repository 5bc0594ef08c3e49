"""Initializers over a whole model: by rules, by data (LSUV), by depth (Fixup)."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from regjax import keys, trees
from regjax.initializers.fans import fans
from regjax.initializers.scaled import Initializer
from regjax.initializers.schemes import Scheme

PyTree = Any
# Which parameters a rule is for: a glob over their path, or a test of path and shape.
Match = str | Callable[[str, tuple[int, ...]], bool]


def is_dense(path: str, shape: tuple[int, ...]) -> bool:
    """Matches kernels of dense layers.

    >>> is_dense("head/kernel", (64, 10))
    True
    """
    return trees.is_kernel(path) and len(shape) == 2


def is_convolution(path: str, shape: tuple[int, ...]) -> bool:
    """Matches kernels of convolutions in 1 to 3 dimensions.

    >>> is_convolution("conv_0/kernel", (3, 3, 1, 32))
    True
    """
    return trees.is_kernel(path) and len(shape) > 2


def reinitialize(
    params: PyTree, key: jax.Array, rules: Sequence[tuple[Match, Initializer | Scheme]]
) -> PyTree:
    """Returns new parameters, each by the first rule that matches its path.

    Each parameter has a random stream of its own, named by its path: a rule changed for one layer
    leaves the others as they were.

    Args:
      params: parameters, or their shapes.
      key: random key.
      rules: (match, initializer) in order. A match is a glob over the path ("conv_*/kernel") or a
        function of path and shape (`is_dense`, `is_convolution`). A `Scheme` in place of an
        initializer also fills the biases that stand beside a kernel.

    Raises:
      ValueError: parameters that no rule covers, or a rule that covers none.

    >>> from regjax import initializers as init
    >>> layers = {"dense": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}
    >>> rules = [("*/bias", init.constant(0.01)), (is_dense, init.identity())]
    >>> reinitialize(layers, jax.random.key(0), rules)["dense"]["bias"]
    Array([0.01, 0.01], dtype=float32)
    """
    shapes = {path: leaf.shape for path, leaf in trees.named(params).items()}
    chosen = {path: _first(rules, path, shape) for path, shape in shapes.items()}
    if missing := [path for path, number in chosen.items() if number < 0]:
        raise ValueError(f"no rule covers {', '.join(missing)}; add one, such as ('*', ...)")
    if idle := set(range(len(rules))) - set(chosen.values()):
        raise ValueError(
            f"rule {rules[min(idle)][0]!r} decides no parameter; the paths are {', '.join(shapes)}"
        )

    def start(path: Any, leaf: Any) -> jax.Array:
        name = trees.path_name(path)
        init = _leaf_initializer(rules[chosen[name]][1], name, shapes)
        return init(keys.stream(key, name), leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(start, params)


def _first(rules: Sequence[tuple[Match, Any]], path: str, shape: tuple[int, ...]) -> int:
    for number, (match, _) in enumerate(rules):
        if match(path, shape) if callable(match) else fnmatch.fnmatchcase(path, match):
            return number
    return -1


def _leaf_initializer(
    rule: Initializer | Scheme, path: str, shapes: Mapping[str, tuple[int, ...]]
) -> Initializer:
    if not isinstance(rule, Scheme):
        return rule
    kernel = f"{path.rpartition('/')[0]}/kernel".lstrip("/")
    if path == kernel:
        return rule.kernel
    if kernel not in shapes:
        raise ValueError(f"a Scheme has nothing for {path}, which stands beside no kernel")
    return rule.bias(fans(shapes[kernel])[0])


def lsuv(
    outputs: Callable[[PyTree], Mapping[str, jax.Array]],
    params: PyTree,
    tolerance: float = 0.01,
    max_sweeps: int = 100,
) -> PyTree:
    """Layer-sequential unit variance, Mishkin & Matas (2016): every layer's output has variance 1.

    w ← w / std(output), over all layers at once and again until all variances are within
    `tolerance` of 1. A layer is final when those before it are, so a network of depth L takes at
    most about L sweeps, as many forward passes as going layer by layer. The paper starts from
    `orthogonal` kernels and zero biases.

    Args:
      outputs: maps parameters to the output of each layer on one batch of data, by the path of
        the layer's kernel.
      params: where to start.
      tolerance: largest distance of a variance from 1.
      max_sweeps: gives up after this many; a layer whose output is constant is left as it is.

    Raises:
      ValueError: an output whose path is not a parameter's.

    >>> x = jax.random.normal(jax.random.key(0), (64, 3))
    >>> forward = lambda p: {"dense/kernel": x @ p["dense"]["kernel"]}
    >>> params = lsuv(forward, {"dense": {"kernel": 7 * jnp.eye(3)}})
    >>> forward(params)["dense/kernel"].var().round(2)
    Array(1., dtype=float32)
    """
    paths, names = trees.names(params), jax.eval_shape(outputs, params).keys()
    if unknown := sorted(set(names) - set(paths)):
        raise ValueError(f"outputs names {unknown[0]!r}, which is no parameter: {sorted(paths)}")

    def variances(params: PyTree) -> dict[str, jax.Array]:
        return {name: jnp.var(y.astype(jnp.float32)) for name, y in outputs(params).items()}

    def sweep(carry: tuple[PyTree, dict[str, jax.Array], Any]) -> Any:
        params, measured, count = carry

        def scale(path: Any, w: jax.Array) -> jax.Array:
            variance = measured.get(trees.path_name(path), jnp.ones(()))
            usable = jnp.isfinite(variance) & (variance > 0)
            return w * jax.lax.rsqrt(jnp.where(usable, variance, 1)).astype(w.dtype)

        params = jax.tree_util.tree_map_with_path(scale, params)
        return params, variances(params), count + 1

    def unfinished(carry: tuple[PyTree, dict[str, jax.Array], Any]) -> jax.Array:
        _, measured, count = carry
        usable = jnp.array([jnp.where(v > 0, v, 1) for v in measured.values()])
        return (abs(usable - 1) > tolerance).any() & (count < max_sweeps)

    return jax.lax.while_loop(unfinished, sweep, (params, variances(params), 0))[0]


def fixup(params: PyTree, branches: Sequence[Sequence[str]], head: str) -> PyTree:
    """Fixup, Zhang, Dauphin & Ma (2019): residual networks that train without normalization.

    In each residual branch of m kernels the last is 0 and the others are multiplied by
    L^(−1 / (2m − 2)), L the number of branches; the head is 0. The scalar biases and multipliers
    that the paper adds are parameters of the network.

    Args:
      params: started from `he_normal`.
      branches: the paths of each branch's kernels, in order.
      head: the path of the last layer's kernel.

    Raises:
      ValueError: a path that is not a parameter's.

    >>> w = {name: {"kernel": jnp.ones((1, 1))} for name in ("a", "b", "head")}
    >>> fixup(w, [["a/kernel", "b/kernel"]] * 4, "head/kernel")["a"]["kernel"]
    Array([[0.5]], dtype=float32)
    """
    factors = {head: 0.0}
    for branch in branches:
        for path in branch[:-1]:
            factors[path] = len(branches) ** (-1 / (2 * len(branch) - 2))
        factors[branch[-1]] = 0.0
    paths = trees.names(params)
    if unknown := sorted(set(factors) - set(paths)):
        raise ValueError(f"{unknown[0]!r} is no parameter: {', '.join(paths)}")
    return jax.tree_util.tree_map_with_path(
        lambda path, w: w * factors.get(trees.path_name(path), 1.0), params
    )
