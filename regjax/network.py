"""The network as training sees it: a Flax module, and what a config does to its weights.

`init` gives parameters and statistics, `apply` logits and new statistics; dropped weights, norms
of weights and half precision are done here, on the tree of parameters, so that any module has them.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from regjax import initializers, keys
from regjax.config import ModelConfig
from regjax.dropout import drop_connect
from regjax.errors import InputError
from regjax.normalization import reparametrization

PyTree = Any


class Network(NamedTuple):
    """A module and its config.

    Attributes:
      config: what is done to the weights.
      module: maps inputs to logits, as those of `regjax.models`.
      classes: K.
    """

    config: ModelConfig
    module: Any
    classes: int

    def init(self, key: jax.Array, inputs: jax.Array) -> tuple[PyTree, PyTree]:
        """Returns parameters and statistics.

        Args:
          key: random key.
          inputs: `(N, ...)`; with `rescale` by data, the batch that decides, else only its shape.

        Raises:
          InputError: a mask that matches nothing, or a network that cannot be rescaled so.
        """
        variables = dict(self.module.init(key, inputs, train=False))
        params = variables.pop("params")
        if self.config.rescale == "lsuv":
            params = self._lsuv(params, variables, inputs)
        elif self.config.rescale == "fixup":
            params = _fixup(params)
        kind, mask = self.config.kernels, self.config.kernels_mask
        try:
            params, vectors = reparametrization.start(kind, params, key, mask)
        except ValueError as error:
            raise InputError(f"model.kernels_mask: {error}") from error
        return params, {**variables, **vectors}

    def apply(
        self,
        params: PyTree,
        statistics: PyTree,
        inputs: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, PyTree]:
        """Returns logits and the new statistics, which are the old ones in inference.

        With `precision` bfloat16 the module is given parameters and inputs of that dtype, and what
        goes in and comes out here keeps its own: logits are float32, statistics what they were, and
        gradients come in the dtype of the parameters. Norms of weights are taken before.

        Args:
          params, statistics: as `init` gave them.
          inputs: `(N, ...)`.
          train: whether dropout drops and batches are measured.
          mask: `(N,)`, 0 for rows of padding.
          dropout_rate: may be traced; None: no dropout in the program.
          key: random key of the dropout.
        """
        config = self.config
        params, statistics = reparametrization.effective(
            config.kernels, params, statistics, train, config.kernels_mask
        )
        rest = dict(statistics)
        vectors = {k: rest.pop(k) for k in (reparametrization.SPECTRAL,) if k in rest}
        if train and key is not None and dropout_rate is not None and config.dropout == "connect":
            params = drop_connect(key, params, dropout_rate, "kernels")
            dropout_rate = None
        half = config.precision == "bfloat16"
        if half:
            params, inputs = _cast((params, inputs), jnp.bfloat16)
        logits, updated = self.module.apply(
            {"params": params, **rest},
            inputs,
            train=train,
            mask=mask,
            dropout_rate=dropout_rate,
            rngs={} if key is None else {keys.DROPOUT: key},
            mutable=list(rest) if train else [],
        )
        if half:
            logits = _cast(logits, jnp.float32)
        if half and train:  # our norms keep float32 by themselves; a user's module may not
            updated = jax.tree.map(lambda new, old: new.astype(old.dtype), dict(updated), rest)
        return logits, {**(updated if train else rest), **vectors}

    def _lsuv(self, params: PyTree, variables: PyTree, inputs: jax.Array) -> PyTree:
        def outputs(params: PyTree) -> dict[str, jax.Array]:
            """What each dense or convolutional layer puts out, by the path of its kernel."""
            _, seen = self.module.apply(
                {"params": params, **variables},
                inputs,
                train=False,
                capture_intermediates=lambda module, _: isinstance(module, (nn.Dense, nn.Conv)),
                mutable=["intermediates"],
            )
            leaves = jax.tree_util.tree_leaves_with_path(seen["intermediates"])
            named = [([k.key for k in path if hasattr(k, "key")], leaf) for path, leaf in leaves]
            return {"/".join([*path[:-1], "kernel"]): leaf for path, leaf in named}

        return initializers.lsuv(outputs, params)


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    """The tree with its floating arrays in a dtype."""

    def cast(x: jax.Array) -> jax.Array:
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, tree)


def _fixup(params: PyTree) -> PyTree:
    """Fixup over the blocks of a network: modules named `block…` with two kernels or more."""
    blocks = {name: block for name, block in params.items() if name.startswith("block")}
    branches = [
        sorted(f"{name}/{layer}/kernel" for layer in block if layer.startswith("conv_"))
        for name, block in blocks.items()
    ]
    branches = [branch for branch in branches if len(branch) > 1]
    if not branches:
        raise InputError("model.rescale is 'fixup', which needs residual blocks; use a resnet")
    return initializers.fixup(params, branches, "head/kernel")
