"""A convolution and its gradients as products of matrices: patches × kernel.

For images `(N, H, W, I)`, kernels `(kh, kw, I, O)`, stride 1 and zeros as padding. All three are
`lax.conv_general_dilated` and its transposes up to rounding, written for where those are slow: in a
loop on a CPU, and with many kernels at once (under `vmap`) on an accelerator.
"""

import functools
import itertools

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]
Window = tuple[int, ...]

FEW = 4  # input channels, up to which a sum of shifted images is less work than a product


def shifted(x: jax.Array, window: Window, padding: Padding) -> list[jax.Array]:
    """What each place of the window sees, `(N, H', W', I)` each.

    >>> [seen.shape for seen in shifted(jnp.ones((1, 3, 3, 2)), (1, 2), ((0, 0), (0, 0)))]
    [(1, 3, 2, 2), (1, 3, 2, 2)]
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (x.shape[1 + i] - window[i] + 1 for i in (0, 1))
    places = itertools.product(range(window[0]), range(window[1]))
    return [x[:, i : i + rows, j : j + columns] for i, j in places]


def patches(x: jax.Array, window: Window, padding: Padding) -> jax.Array:
    """What the window sees at each place, `(N, H', W', kh·kw·I)`.

    >>> patches(jnp.ones((1, 3, 3, 2)), (2, 2), ((0, 0), (0, 0))).shape
    (1, 2, 2, 8)
    """
    return jnp.concatenate(shifted(x, window, padding), axis=-1)


def product(seen: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution, `(N, H', W', O)`, of patches.

    >>> product(patches(jnp.ones((1, 3, 3, 2)), (3, 3), ((0, 0), (0, 0))), jnp.ones((3, 3, 2, 1)))
    Array([[[[18.]]]], dtype=float32)
    """
    y = seen.reshape(-1, seen.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return y.reshape(*seen.shape[:-1], kernel.shape[-1])


def shifted_sum(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """The convolution, as a sum over the window that compilers fuse with what follows.

    >>> shifted_sum(jnp.ones((1, 3, 3, 2)), jnp.ones((3, 3, 2, 1)), ((0, 0), (0, 0)))
    Array([[[[18.]]]], dtype=float32)
    """
    *window, channels, out = kernel.shape
    weights = kernel.reshape(-1, channels, 1, 1, 1, out)
    images = shifted(x, tuple(window), padding)
    terms = [
        image[..., c, None] * w[c]
        for image, w in zip(images, weights, strict=True)
        for c in range(channels)
    ]
    return functools.reduce(jnp.add, terms)


def input_gradient(dy: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """What the output's gradient `(N, H', W', O)` is for the input, `(N, H, W, I)`.

    >>> dy = jnp.ones((1, 1, 1, 1))
    >>> input_gradient(dy, jnp.ones((3, 3, 1, 1)), ((0, 0), (0, 0))).sum()
    Array(9., dtype=float32)
    """
    kh, kw, channels, out = kernel.shape
    n, rows, columns, _ = dy.shape
    seen = (dy.reshape(-1, out) @ kernel.reshape(-1, out).T).reshape(
        n, rows, columns, kh, kw, channels
    )
    height, width = rows + kh - 1, columns + kw - 1
    dx = jnp.zeros((n, height, width, channels), dy.dtype)
    for i, j in itertools.product(range(kh), range(kw)):
        around = ((0, 0), (i, kh - 1 - i), (j, kw - 1 - j), (0, 0))
        dx = dx + jnp.pad(seen[..., i, j, :], around)
    (top, bottom), (left, right) = padding
    return dx[:, top : height - bottom, left : width - right]


def kernel_gradient(seen: jax.Array, dy: jax.Array, window: Window) -> jax.Array:
    """What the output's gradient is for the kernel, `(kh, kw, I, O)`, with the input's patches.

    >>> seen = patches(jnp.ones((1, 3, 3, 1)), (3, 3), ((0, 0), (0, 0)))
    >>> kernel_gradient(seen, jnp.ones((1, 1, 1, 1)), (3, 3)).sum()
    Array(9., dtype=float32)
    """
    flat = dy.reshape(-1, dy.shape[-1])
    # (dyᵀ · patches)ᵀ: on a CPU the transposed product runs faster than patchesᵀ · dy.
    weights = (flat.T @ seen.reshape(-1, seen.shape[-1])).T
    return weights.reshape(*window, -1, dy.shape[-1])
