"""Compiled programs kept on disk, so that a second start does not compile again."""

import warnings

import jax

from regjax.data import cache


def keep() -> None:
    """Has this process keep its compiled programs for other processes, now and later.

    They lie in the cache folder, unless JAX was given one (`JAX_COMPILATION_CACHE_DIR`). What
    cannot be read or written there, such as a torn file, is compiled again and told to nobody.
    """
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if not jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache.folder() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
