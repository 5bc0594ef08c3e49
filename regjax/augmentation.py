"""The augmentation of a config, as one function of a batch built from traced numbers.

thickness → rotate, move, scale, shear → elastic → shift → flip → cutout → mixup or CutMix. What a
config leaves at 0 is not in the program.
"""

from collections.abc import Callable

import jax

from regjax import augment, keys
from regjax.batch import Batch
from regjax.config import AugmentConfig, flatten
from regjax.strengths import Strengths

Change = Callable[[jax.Array, jax.Array], jax.Array]  # of (key, images)
AFFINE = ("degrees", "translate", "scale", "shear")
MIXES = {"mixup": augment.mixup, "cutmix": augment.cutmix}


def changes_images(config: AugmentConfig) -> bool:
    """Whether a config does what only images can have done to them.

    >>> changes_images(AugmentConfig(mix="mixup")), changes_images(AugmentConfig(flip=0.5))
    (False, True)
    """
    names = ("thickness", *AFFINE, "elastic_alpha", "shift", "flip", "cutout")
    return config.mix == "cutmix" or any(dict(flatten(config))[name] for name in names)


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


def _changes(strengths: Strengths, fill: jax.Array) -> dict[str, Change]:
    """The changes that are in the program, in their order."""
    s = {name.removeprefix("augment."): value for name, value in strengths.items()}
    affine = {name: s[name] for name in AFFINE if name in s}
    changes: dict[str, tuple[bool, Change]] = {
        "thickness": (
            "thickness" in s,
            lambda k, x: augment.random_thickness(k, x, s["thickness"]),
        ),
        "affine": (bool(affine), lambda k, x: augment.random_affine(k, x, **affine, fill=fill)),
        "elastic": (
            "elastic_alpha" in s,
            lambda k, x: augment.elastic(k, x, s["elastic_alpha"], s["elastic_sigma"], fill),
        ),
        "shift": ("shift" in s, lambda k, x: augment.random_shift(k, x, s["shift"], fill)),
        "flip": ("flip" in s, lambda k, x: augment.random_flip(k, x, s["flip"])),
        "cutout": ("cutout" in s, lambda k, x: augment.cutout(k, x, s["cutout"], fill)),
    }
    return {name: change for name, (used, change) in changes.items() if used}
