"""Losses, one value an example."""

import jax
import jax.numpy as jnp

from regjax.dtypes import wide, widen

Number = jax.Array | float


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    label_smoothing: Number = 0.0,
    convention: str = "all",
) -> jax.Array:
    """Cross-entropy with label smoothing, −Σₖ qₖ log softmax(logits)ₖ, for each example.

    The targets q of labels y (one-hot if hard) are, by convention,

    - `all`: (1 − ε)·y + ε/K, ε over all classes (Szegedy et al. 2016; torch, optax, Keras);
    - `others`: (1 − ε)·y + ε·(1 − y)/(K − 1), ε over the wrong classes.

    `others` with ε is `all` with ε·K/(K − 1): [.9, .05, .05] is ε = .1 there and .15 here.

    Args:
      logits: `(..., K)`, floating; computed in at least float32. A class of logit −inf and no
        weight in q costs nothing.
      labels: `(...)`, integers in [0, K), or `(..., K)`, the probability of each class (mixup).
      label_smoothing: ε in [0, 1], may be traced.
      convention: `all` or `others`.

    Returns:
      `(...)` losses in at least float32.

    Raises:
      ValueError: an unknown convention, `others` of a single class, or labels whose shape does not
        fit the logits.

    >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([2])).round(4)
    Array([1.3863], dtype=float32)
    >>> cross_entropy(jnp.zeros((1, 2)), jnp.array([[0.3, 0.7]])).round(4)
    Array([0.6931], dtype=float32)
    """
    if convention not in ("all", "others"):
        raise ValueError(f"convention must be 'all' or 'others', got {convention!r}")
    log_p = jax.nn.log_softmax(widen(logits))
    classes = logits.shape[-1]
    if convention == "others":
        if classes < 2:
            raise ValueError(f"the convention 'others' needs other classes, got {classes}")
        label_smoothing = label_smoothing * classes / (classes - 1)
    hit = _expected(labels, log_p)
    return -_times(1 - label_smoothing, hit) - _times(label_smoothing, log_p.mean(-1))


def focal(
    logits: jax.Array, labels: jax.Array, gamma: Number = 2.0, alpha: Number | None = None
) -> jax.Array:
    """Focal loss, −Σₖ yₖ αₖ (1 − pₖ)^γ log pₖ with p = softmax(logits), for each example.

    Lin et al. (2017) in the softmax form (Keras's `CategoricalFocalCrossentropy`, which clips p
    to [1e-7, 1 − 1e-7] and has α = .25 by default). γ = 0 is the cross-entropy, exactly.

    Args:
      logits: `(..., K)`, floating; computed in at least float32.
      labels: `(...)`, integers in [0, K), or `(..., K)`, the probability of each class.
      gamma: γ ≥ 0, may be traced.
      alpha: weight of each class `(K,)` or of all, may be traced; None is 1.

    Returns:
      `(...)` losses in at least float32.

    Raises:
      ValueError: labels whose shape does not fit the logits.

    >>> focal(jnp.zeros((1, 4)), jnp.array([2]), gamma=2.0).round(4)  # (3/4)² log 4
    Array([0.7798], dtype=float32)
    """
    log_p = jax.nn.log_softmax(widen(logits))
    weight = jnp.exp(gamma * _log_miss(log_p))
    if alpha is not None:
        weight = weight * jnp.broadcast_to(alpha, weight.shape)
    # Where p is 0 its product would send 0 · inf to the weight's gradient.
    impossible = log_p == -jnp.inf
    product = weight * jnp.where(impossible, 0, log_p)
    return -_expected(labels, jnp.where(impossible, log_p, product))


def mean_squared(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of the squared differences, over everything but the first axis.

    The mean over the examples is `torch.nn.MSELoss`; there is no factor ½.

    Args:
      outputs: `(N, ...)`, floating; computed in at least float32.
      targets: of the same shape.

    Returns:
      `(N,)` losses in at least float32.

    Raises:
      ValueError: shapes that differ, as `(N, 1)` and `(N,)` do.

    >>> mean_squared(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]]))
    Array([5.], dtype=float32)
    """
    if outputs.shape != targets.shape:
        raise ValueError(
            f"targets must have the outputs' shape {outputs.shape}, got {targets.shape}"
        )
    dtype = wide(jnp.result_type(outputs, targets))
    squares = jnp.square(outputs.astype(dtype) - targets.astype(dtype))
    return squares.mean(axis=tuple(range(1, squares.ndim)))


def _log_miss(log_p: jax.Array) -> jax.Array:
    """log(1 − p) of each class, exact also for p near 1, finite with a finite gradient."""
    largest = jax.nn.one_hot(jnp.argmax(log_p, axis=-1), log_p.shape[-1], dtype=bool)
    floor = jnp.finfo(log_p.dtype).min / 2
    # 1 − p of the largest is the sum of the others; no other p is above ½.
    others = jnp.where(largest, floor, jnp.maximum(log_p, floor))
    rest = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    return jnp.where(largest, rest, jnp.log1p(-jnp.where(largest, 0, jnp.exp(log_p))))


def _expected(labels: jax.Array, values: jax.Array) -> jax.Array:
    """The value of the label's class, or the mean of all by their probabilities."""
    if labels.shape == values.shape:
        return _times(labels, values).sum(-1)
    if labels.shape == values.shape[:-1]:
        return jnp.take_along_axis(values, labels[..., None], axis=-1)[..., 0]
    raise ValueError(
        f"logits of shape {values.shape} need labels of shape {values.shape[:-1]}, or of their own "
        f"for probabilities, got {labels.shape}"
    )


def _times(weight: Number, log_p: jax.Array) -> jax.Array:
    """weight · log p with 0 · log 0 = 0."""
    weight = jnp.asarray(weight, log_p.dtype)
    return weight * jnp.where((weight == 0) & (log_p == -jnp.inf), 0, log_p)
