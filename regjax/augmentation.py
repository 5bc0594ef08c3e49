"""The augmentation of a config, as one function of a batch built from traced numbers.

thickness → rotate, move, scale, shear → elastic → shift → flip → cutout → mixup or CutMix. What a
config leaves at 0 is not in the program.
"""

from collections.abc import Callable

import jax

from regjax import augment, keys
from regjax.batch import Batch
from regjax.config import AugmentConfig
from regjax.strengths import Strengths

Change = Callable[[jax.Array, jax.Array], jax.Array]  # of (key, images)
AFFINE = ("degrees", "translate", "scale", "shear")
MIXES = {"mixup": augment.mixup, "cutmix": augment.cutmix}


def changes_images(config: AugmentConfig, strengths: Strengths) -> bool:
    """Whether a config does what only images can have done to them.

    >>> changes_images(AugmentConfig(), {}), changes_images(AugmentConfig(), {"augment.flip": 0.5})
    (False, True)
    """
    return config.mix == "cutmix" or bool(_changes(strengths, 0.0))


def augmented(
    config: AugmentConfig,
    strengths: Strengths,
    batch: Batch,
    key: jax.Array,
    fill: jax.Array,
    targets: Callable[[jax.Array], jax.Array],
) -> Batch:
    """Returns the batch with its images changed and, if they are mixed, with soft targets.

    Args:
      config: what is done.
      strengths: how much.
      batch: of training.
      key: random key; every change has a stream of its own.
      fill: what comes in over the border, a scalar or `(C,)`, as the network sees it.
      targets: of labels `(N,)`, the targets `(N, K)` that are mixed.
    """
    images = batch.images
    for name, change in _changes(strengths, fill).items():
        images = change(keys.stream(key, name), images)
    if config.mix == "none":
        return batch._replace(images=images)
    images, mixed = MIXES[config.mix](
        keys.stream(key, config.mix),
        images,
        targets(batch.labels),
        strengths["augment.mix_alpha"],
        batch.mask,
        config.mix_per_example,
    )
    return batch._replace(images=images, targets=mixed)


def _changes(strengths: Strengths, fill: jax.Array | float) -> dict[str, Change]:
    """The changes that are in the program, in their order."""
    s = {name.removeprefix("augment."): value for name, value in strengths.items()}
    affine = {name: s[name] for name in AFFINE if name in s}
    changes: dict[str, Change] = {}
    if "thickness" in s:
        changes["thickness"] = lambda k, x: augment.random_thickness(k, x, s["thickness"])
    if affine:
        changes["affine"] = lambda k, x: augment.random_affine(k, x, **affine, fill=fill)
    if "elastic_alpha" in s:
        elastic = s["elastic_alpha"], s["elastic_sigma"], fill
        changes["elastic"] = lambda k, x: augment.elastic(k, x, *elastic)
    if "shift" in s:
        changes["shift"] = lambda k, x: augment.random_shift(k, x, s["shift"], fill)
    if "flip" in s:
        changes["flip"] = lambda k, x: augment.random_flip(k, x, s["flip"])
    if "cutout" in s:
        changes["cutout"] = lambda k, x: augment.cutout(k, x, s["cutout"], fill)
    return changes
