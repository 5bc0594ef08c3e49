"""Initializers: fans, distributions and layer defaults as PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from regjax import initializers

SHAPES = {"dense": (200, 300), "conv": (3, 3, 20, 40), "conv1d": (5, 30, 40)}


def torch_layout(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[-1], shape[-2], *shape[:-2])


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_fans_are_torchs(shape: tuple[int, ...]) -> None:
    import torch

    expected = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(torch_layout(shape)))
    assert initializers.fans(shape) == expected


@pytest.mark.parity
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["xavier_uniform", "xavier_normal", "he_uniform", "he_normal"])
def test_same_distribution_as_torch(name: str, shape: tuple[int, ...]) -> None:
    import torch

    torch.manual_seed(0)
    theirs = torch.empty(torch_layout(shape))
    init = getattr(torch.nn.init, name.replace("he", "kaiming") + "_")
    init(theirs, **({"nonlinearity": "relu"} if "he" in name else {}))
    ours = np.asarray(getattr(initializers, name)()(jax.random.key(0), shape)).ravel()
    assert stats.ks_2samp(ours, theirs.numpy().ravel()).pvalue > 1e-3
    assert np.isclose(ours.std(), theirs.std(), rtol=0.02)
    assert np.isclose(abs(ours).max(), abs(theirs).max(), rtol=0.01 if "uniform" in name else 0.3)


@pytest.mark.parity
def test_torch_default_is_what_torch_layers_start_from() -> None:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.Conv2d(20, 4000, 3)
    scheme = initializers.SCHEMES["torch_default"]
    kernel = scheme.kernel(jax.random.key(0), (3, 3, 20, 4000))
    bias = scheme.bias(9 * 20)(jax.random.key(1), (4000,))
    assert layer.bias is not None
    for ours, theirs in ((kernel, layer.weight), (bias, layer.bias)):
        theirs = theirs.detach().numpy().ravel()
        assert stats.ks_2samp(np.asarray(ours).ravel(), theirs).pvalue > 1e-3
        assert np.isclose(abs(np.asarray(ours)).max(), abs(theirs).max(), rtol=1e-2)


@pytest.mark.parametrize("shape", [(20, 10), (10, 20), (3, 3, 4, 8)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    kernel = initializers.orthogonal(2.0)(jax.random.key(0), shape).reshape(-1, shape[-1])
    small = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize("name", initializers.SCHEMES)
def test_contract(name: str) -> None:
    """Shape and dtype as asked, by key alone, the same under jit and vmap."""
    scheme, shape = initializers.SCHEMES[name], (3, 3, 4, 8)
    kernel = scheme.kernel(jax.random.key(0), shape, jnp.float32)
    assert (kernel.shape, kernel.dtype) == (shape, jnp.float32)
    again = jax.jit(lambda key: scheme.kernel(key, shape, jnp.float32))(jax.random.key(0))
    np.testing.assert_allclose(kernel, again, atol=1e-6)
    other = scheme.kernel(jax.random.key(1), shape, jnp.float32)
    assert not np.allclose(kernel, other)
    assert jax.vmap(lambda k: scheme.kernel(k, shape))(jax.random.split(jax.random.key(0), 3)).shape


def test_fans_need_two_dimensions() -> None:
    with pytest.raises(ValueError, match="at least two dimensions"):
        initializers.fans((3,))
