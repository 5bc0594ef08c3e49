"""Recurrent networks: Elman, GRU and LSTM as PyTorch computes them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from regjax.initializers import SCHEMES, Initializer, Scheme
from regjax.models.layers import UNITS, Activation, Dropouts, Norm, Rate, dense, drop

State = tuple[jax.Array, ...]  # of `(N, H)`; the first is the hidden state


class Cell(NamedTuple):
    """One step of a recurrent layer.

    Attributes:
      gates: G, how many pre-activations of width H it takes.
      arrays: how many arrays of `(N, H)` its state has.
      step: maps (state, from the input, from the hidden state), the last two `(N, G·H)` with their
        biases, to the next state.
    """

    gates: int
    arrays: int
    step: Callable[[State, jax.Array, jax.Array], State]


def elman(activation: Activation = jnp.tanh) -> Cell:
    """h' = act(x + u) (Elman, 1990), `torch.nn.RNN`; x and u come from the input and from h.

    >>> elman().step((jnp.zeros(1),), jnp.ones(1), -jnp.ones(1))
    (Array([0.], dtype=float32),)
    """

    def step(state: State, x: jax.Array, u: jax.Array) -> State:
        del state
        return (activation(x + u),)

    return Cell(1, 1, step)


def gru() -> Cell:
    """Cho et al. (2014) with the reset after the product, as `torch.nn.GRU` and cuDNN have it.

    r = σ(xᵣ + uᵣ), z = σ(x_z + u_z), h' = (1 − z) · tanh(xₙ + r · uₙ) + z · h; the paper's z is
    1 − z here. Gates are stacked r, z, n.

    >>> gru().step((jnp.ones(1),), jnp.zeros(3), jnp.zeros(3))
    (Array([0.5], dtype=float32),)
    """

    def step(state: State, x: jax.Array, u: jax.Array) -> State:
        (h,) = state
        (xr, xz, xn), (ur, uz, un) = jnp.split(x, 3, -1), jnp.split(u, 3, -1)
        z = jax.nn.sigmoid(xz + uz)
        new = jnp.tanh(xn + jax.nn.sigmoid(xr + ur) * un)
        return ((1 - z) * new + z * h,)

    return Cell(3, 1, step)


def lstm(forget_bias: float = 0.0) -> Cell:
    """Hochreiter & Schmidhuber (1997) with Gers et al.'s forget gate (2000), `torch.nn.LSTM`.

    With a = x + u: c' = σ(a_f + b) · c + σ(aᵢ) · tanh(a_g), h' = σ(a_o) · tanh(c'). Gates are
    stacked i, f, g, o.

    Args:
      forget_bias: b. Jozefowicz et al. (2015) recommend 1; a constant beside the gate's own
        biases, so that no decay pulls it down.

    >>> h, c = lstm().step((jnp.ones(1), jnp.ones(1)), jnp.zeros(4), jnp.zeros(4))
    >>> c
    Array([0.5], dtype=float32)
    """

    def step(state: State, x: jax.Array, u: jax.Array) -> State:
        _, c = state
        i, f, g, o = jnp.split(x + u, 4, -1)
        c = jax.nn.sigmoid(f + forget_bias) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    return Cell(4, 2, step)


class Recurrent(nn.Module):
    """A recurrent layer: `(N, T, F)` to its hidden states `(N, T, H)`, from a state of zeros.

    The input's part of the pre-activations is one matrix product for all steps, outside the loop.
    Both parts have a bias, as in PyTorch, or else a norm in its place: that of the input over all
    steps at once (batch norm over rows and steps is Amodei et al.'s, 2016), that of the hidden
    state in every step (Ba et al., 2016: layer norm on each of the two parts).

    Attributes:
      width: H.
      cell: `elman()`, `gru()` or `lstm()`.
      initializer: of the input's kernel, gate by gate, and bias.
      recurrent_initializer: of the hidden state's.
      norm: factory of norms over the last axis for the input's part; None: without.
      recurrent_norm: the same for the hidden state's part; it cannot be batch norm.
      dropout: of the hidden state as it enters the next step, one mask for all steps (Gal &
        Ghahramani 2016).
    """

    width: int
    cell: Cell
    initializer: Scheme = SCHEMES["torch_default"]
    recurrent_initializer: Scheme = SCHEMES["orthogonal"]
    norm: Norm | None = None
    recurrent_norm: Norm | None = None
    dropout: Dropouts = UNITS

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: Rate = None,
    ) -> jax.Array:
        """Returns the hidden state after every step."""
        x = self._part(x, "input", self.initializer, self.norm, train, mask)
        start = jnp.zeros((len(x), self.width), x.dtype)
        rate = dropout_rate if train else None
        kept = drop(self, self.dropout.states, jnp.ones_like(start), rate)

        def step(layer: "Recurrent", state: State, x: jax.Array) -> tuple[State, jax.Array]:
            h = state[0] * kept
            scheme, norm = layer.recurrent_initializer, layer.recurrent_norm
            u = layer._part(h, "recurrent", scheme, norm, train, mask)
            state = layer.cell.step(state, x, u)
            return state, state[0]

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, hidden = scan(self, (start,) * self.cell.arrays, x.swapaxes(0, 1))
        return hidden.swapaxes(0, 1)

    def _part(
        self,
        x: jax.Array,
        name: str,
        scheme: Scheme,
        norm: Norm | None,
        train: bool,
        mask: jax.Array | None,
    ) -> jax.Array:
        """Pre-activations of all gates, from the input or from the hidden state."""
        gates = self.cell.gates
        x = nn.Dense(
            gates * self.width,
            use_bias=norm is None,
            kernel_init=_by_gate(scheme.kernel, gates),
            bias_init=scheme.bias(x.shape[-1]),
            name=name,
        )(x)
        return x if norm is None else norm(name=f"{name}_norm")(x, train=train, mask=mask)


class RNN(nn.Module):
    """Recurrent layers over the pixels of an image; the last hidden state goes to a linear head.

    A step reads a row of the image, or with `pixels` a single value (Le et al., 2015).

    Attributes:
      classes: K.
      widths: one recurrent layer each.
      cell: `elman()`, `gru()` or `lstm()`.
      pixels: `(N, H, W, C)` is read as H·W·C steps of 1 and not as H steps of W·C.
      initializer: of the inputs' kernels and of the head.
      recurrent_initializer, norm, recurrent_norm: as in `Recurrent`.
      dropout: of the units after every layer, and of the states as in `Recurrent`. Gal & Ghahramani
        (2016) are `Dropouts(units=variational_dropout, states=dropout)`.

    >>> images = jnp.ones((2, 8, 8, 1))
    >>> logits, _ = RNN(10, (16,), gru()).init_with_output(jax.random.key(0), images)
    >>> logits.shape
    (2, 10)
    """

    classes: int
    widths: Sequence[int] = (128,)
    cell: Cell = lstm()
    pixels: bool = False
    initializer: Scheme = SCHEMES["torch_default"]
    recurrent_initializer: Scheme = SCHEMES["orthogonal"]
    norm: Norm | None = None
    recurrent_norm: Norm | None = None
    dropout: Dropouts = UNITS

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        mask: jax.Array | None = None,
        dropout_rate: Rate = None,
    ) -> jax.Array:
        """Returns logits."""
        x = x.reshape(len(x), -1, 1) if self.pixels else x.reshape(*x.shape[:2], -1)
        for i, width in enumerate(self.widths):
            x = Recurrent(
                width,
                self.cell,
                self.initializer,
                self.recurrent_initializer,
                self.norm,
                self.recurrent_norm,
                self.dropout,
                name=f"layer_{i}",
            )(x, train, mask, dropout_rate)
            x = drop(self, self.dropout.units, x, dropout_rate if train else None)
        return dense(x[:, -1], self.classes, self.initializer, "head")


def _by_gate(kernel: Initializer, gates: int) -> Initializer:
    """Starts each gate by itself: what is orthogonal over all gates together is so in none."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        one = (shape[0], shape[1] // gates)
        keys = jax.random.split(key, gates)
        return jnp.concatenate([kernel(k, one, dtype) for k in keys], axis=-1)

    return init
