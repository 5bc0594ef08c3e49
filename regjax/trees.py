"""Parameter trees by path: names, masks, counts."""

import fnmatch
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

PyTree = Any
Rule = str | Callable[[str], bool]


def path_name(path: tuple[Any, ...]) -> str:
    """Returns a key path as text, joined by slashes.

    >>> path_name((jax.tree_util.DictKey("conv_0"), jax.tree_util.DictKey("kernel")))
    'conv_0/kernel'
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def is_kernel(name: str) -> bool:
    """Whether a path names a weight matrix or filter, as opposed to a bias, scale or statistic.

    >>> is_kernel("dense_0/kernel"), is_kernel("dense_0/bias")
    (True, False)
    """
    return name.rsplit("/", 1)[-1] == "kernel"


def is_hidden_kernel(name: str) -> bool:
    """Whether a path names a kernel before the last layer, which our networks call `head`.

    >>> is_hidden_kernel("dense_0/kernel"), is_hidden_kernel("head/kernel")
    (True, False)
    """
    return is_kernel(name) and name.split("/")[0] != "head"


# What a penalty or a decay covers, by the name used in configs.
MASKS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "kernels": is_kernel,
    "hidden_kernels": is_hidden_kernel,
}


def matcher(rule: Rule) -> Callable[[str], bool]:
    """Returns the test of a path that a rule stands for.

    Args:
      rule: a name in `MASKS`, globs over the path joined by commas, or a test itself.

    >>> matcher("conv_*/kernel,head/kernel")("conv_1/kernel")
    True
    """
    if callable(rule):
        return rule
    if rule in MASKS:
        return MASKS[rule]
    globs = rule.split(",")
    return lambda name: any(fnmatch.fnmatchcase(name, glob.strip()) for glob in globs)


def named(tree: PyTree, rule: Rule = "all") -> dict[str, Any]:
    """Returns the leaves that match a rule by their paths, in the tree's order.

    >>> named({"dense": {"kernel": 1.0, "bias": 2.0}})
    {'dense/bias': 2.0, 'dense/kernel': 1.0}
    """
    return dict(_pairs(tree, rule))


def _pairs(tree: PyTree, rule: Rule) -> list[tuple[str, Any]]:
    matches = matcher(rule)
    pairs = [(path_name(p), leaf) for p, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    return [(name, leaf) for name, leaf in pairs if matches(name)]


def names(tree: PyTree, rule: Rule = "all") -> list[str]:
    """Returns the paths of the leaves that match a rule, in the tree's order.

    >>> names({"dense": {"kernel": 1.0, "bias": 2.0}}, "kernels")
    ['dense/kernel']
    """
    return [name for name, _ in _pairs(tree, rule)]


def mask(tree: PyTree, rule: Rule) -> PyTree:
    """Returns a tree of booleans of the same structure: True where the path matches the rule.

    >>> mask({"dense": {"kernel": 1.0, "bias": 2.0}}, "kernels")
    {'dense': {'bias': False, 'kernel': True}}
    """
    matches = matcher(rule)
    return jax.tree_util.tree_map_with_path(lambda path, _: matches(path_name(path)), tree)


def select(tree: PyTree, rule: Rule) -> list[jax.Array]:
    """Returns the leaves whose path matches the rule, in the tree's order.

    >>> select({"dense": {"kernel": 1.0, "bias": 2.0}}, "kernels")
    [1.0]
    """
    return [leaf for _, leaf in _pairs(tree, rule)]


def count(tree: PyTree) -> int:
    """Returns the number of values in all leaves (arrays or shapes).

    >>> count({"kernel": np.zeros((3, 4)), "bias": np.zeros(4)})
    16
    """
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
