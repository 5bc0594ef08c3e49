"""An array that is marked so is computed once on a CPU; only counting in the program shows it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regjax import assembly, compiling, feed
from regjax.config import Config, DataConfig, ModelConfig

LEVEL = "xla_backend_optimization_level"
ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="as the CPU compiler does it")


def uses(x: jax.Array) -> tuple[jax.Array, ...]:
    """An array that three loops read, so that a compiler may compute it in each."""
    marked = compiling.materialized(jnp.tanh(x) * 2 + 1)
    cheap = compiling.materialized(jnp.maximum(marked, 0) * x)
    return jnp.sin(cheap), cheap[::2] * 3, (cheap * cheap)[:, 1::2]


@ON_CPU
@pytest.mark.parametrize(("options", "once"), [(compiling.options(), True), (None, False)])
def test_what_is_marked_is_computed_once(options: dict[str, str] | None, once: bool) -> None:
    """Without the options it would be; so if this fails, they may no longer be needed."""
    program = jax.jit(uses, compiler_options=options).lower(jnp.ones((64, 64))).compile()
    assert (program.as_text().count(" maximum(") == 1) == once


@ON_CPU
def test_a_runs_programs_are_compiled_so() -> None:
    config = Config(data=DataConfig("digits"), model=ModelConfig("mlp", norm="batch"))
    parts = assembly.assemble(config)
    fed = feed.resident(parts)
    functions = parts.program()
    run = functions.init(*parts.start())
    epoch = functions.compiled(parts.strengths, run, fed.whole, fed.held_out)
    assert " opt-barrier(" in epoch.train_steps.as_text()


@ON_CPU
def test_a_start_compiled_in_less_time_has_the_same_bits() -> None:
    parts = assembly.assemble(Config(data=DataConfig("digits"), model=ModelConfig("mlp")))
    lowered = parts.program().init.lower(*parts.start())
    runs = [lowered.compile(compiler_options=o)(*parts.start()) for o in (None, {LEVEL: 3})]
    for ours, theirs in zip(*(jax.tree.leaves(run.train) for run in runs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 16, 17, 28, 31, 34, 60])
def test_blocks_add_up_to_the_whole(size: int) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (2, size, 3)).astype(np.float32)
    blocks = compiling.in_blocks(jnp.asarray(x), 1)
    np.testing.assert_array_equal(blocks.sum(1), x.sum(1))
    assert blocks.shape[1] <= max(size, 1)
