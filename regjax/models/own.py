"""A user's own network, named in the config as `file:PATH:NAME`.

NAME is, in the Python file PATH, a `flax.linen.Module` class with a field `classes`, or a function
`(input_shape, classes)` that returns a module, or a pair of pure functions,
`init(key, x) -> params` and `apply(params, x) -> logits`, or a function that returns one. A module
is called with those of `train`, `mask` and `dropout_rate` that its `__call__` has; without `mask`,
the rows that fill up a short last batch take part in its batch statistics.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from regjax import keys
from regjax.config.files import execute
from regjax.errors import InputError, did_you_mean, one_line

PREFIX = "file:"


class Own:
    """A network made to be called as those of `regjax.models` are.

    Args:
      init: `init(key, x, **flags) -> variables`.
      apply: `apply(variables, x, rngs=..., mutable=..., **flags) -> (logits, updated)`.
      flags: which of `train`, `mask` and `dropout_rate` both take.
    """

    def __init__(
        self, init: Callable[..., Any], apply: Callable[..., Any], flags: tuple[str, ...]
    ) -> None:
        self._init, self._apply, self.flags = init, apply, flags

    def init(self, key: jax.Array, x: jax.Array, **flags: Any) -> Any:
        """Returns variables."""
        return self._init(key, x, **self._known(flags))

    def apply(self, variables: Any, x: jax.Array, **options: Any) -> tuple[jax.Array, Any]:
        """Returns logits and the collections that changed."""
        others = {name: options[name] for name in ("rngs", "mutable") if name in options}
        return self._apply(variables, x, **others, **self._known(options))

    def _known(self, flags: dict[str, Any]) -> dict[str, Any]:
        return {name: flags[name] for name in self.flags if name in flags}


def load(name: str, input_shape: tuple[int, ...], classes: int) -> Own:
    """Returns the network that a config's `model.name` means; a file is run again if it changed.

    Raises:
      InputError: no such file or name in it, an error in the file, or no network.
    """
    file = Path(name.removeprefix(PREFIX).rpartition(":")[0]).expanduser().resolve()
    version = (str(file), file.stat().st_mtime_ns if file.is_file() else 0)
    return _loaded(name, tuple(input_shape), classes, version)


@functools.lru_cache(maxsize=32)  # every run of a study asks for it
def _loaded(name: str, input_shape: tuple[int, ...], classes: int, version: tuple[str, int]) -> Own:
    del version
    path, _, attribute = name.removeprefix(PREFIX).rpartition(":")
    if not path or not attribute:
        raise InputError(f"model.name is '{name}', expected file:PATH:NAME, as file:mine.py:Net")
    module = _execute(path)
    found = getattr(module, attribute, None)
    if found is None:
        hint = did_you_mean(attribute, [n for n in vars(module) if not n.startswith("_")])
        raise InputError(f"model.name: '{path}' defines no '{attribute}'{hint}")
    try:
        made = _make(found, input_shape, classes)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        told = f"model.name: '{attribute}' of '{path}' cannot be made: {reason}"
        raise InputError(told) from error
    network = _adapted(made)
    if network is None:
        raise InputError(
            f"model.name: '{attribute}' of '{path}' gave a {type(made).__name__}, expected a "
            "flax.linen.Module, or a pair of functions (init, apply)"
        )
    _check(network, name, input_shape, classes)
    return network


def _execute(path: str) -> Any:
    file = Path(path).expanduser()
    if not file.is_file() or file.suffix != ".py":
        raise InputError(f"model.name: '{path}' is no Python file; give the path of one")
    try:
        return execute(file)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"model.name: '{path}' cannot be run: {reason}") from error


def _make(found: Any, input_shape: tuple[int, ...], classes: int) -> Any:
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found(classes=classes)  # pyright: ignore[reportCallIssue]
    return found(input_shape, classes) if inspect.isfunction(found) else found


def _adapted(made: Any) -> Own | None:
    if isinstance(made, nn.Module):
        known = inspect.signature(made.__call__).parameters  # pyright: ignore
        flags = tuple(name for name in ("train", "mask", "dropout_rate") if name in known)
        return Own(made.init, made.apply, flags)
    if isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
        init, apply = made

        def variables(key: jax.Array, x: jax.Array) -> Any:
            return {"params": init(key, x)}

        def logits(variables: Any, x: jax.Array, **options: Any) -> tuple[jax.Array, Any]:
            del options  # pure functions have no randomness and no statistics of their own
            return apply(variables["params"], x), {}

        return Own(variables, logits, ())
    return None


def _check(network: Own, name: str, input_shape: tuple[int, ...], classes: int) -> None:
    """Runs it on shapes alone."""
    x = jax.ShapeDtypeStruct((2, *input_shape), "float32")

    def whole(key: jax.Array, x: jax.Array) -> tuple[jax.Array, Any]:
        variables = network.init(key, x, train=False)
        inference = network.apply(variables, x, train=False, mutable=[])[0]
        others = [name for name in variables if name != "params"]
        flags = {"train": True, "mask": jnp.ones(len(x)), "dropout_rate": jnp.float32(0.5)}
        network.apply(variables, x, **flags, rngs={keys.DROPOUT: key}, mutable=others)
        return inference, variables.get("params", {})

    try:
        shape, params = jax.eval_shape(whole, jax.random.key(0), x)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"model.name: '{name}' fails on inputs {x.shape}: {reason}") from error
    if getattr(shape, "shape", None) != (2, classes):
        given = getattr(shape, "shape", type(shape).__name__)
        raise InputError(
            f"model.name: '{name}' gives {given} for inputs {x.shape}, expected logits of "
            f"(2, {classes})"
        )
    kinds = {"parameters": jax.tree.leaves(params), "logits": [shape]}
    for what, leaves in kinds.items():
        if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
            given = ", ".join({str(leaf.dtype) for leaf in leaves}) or "none"
            raise InputError(f"model.name: '{name}' has {what} of {given}, expected floats")
