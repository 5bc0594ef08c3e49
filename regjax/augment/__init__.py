"""Augmentation of a batch on the device: mixing, erasing, moving, warping and thickening of
images.

Images are `(N, H, W, C)`, floating. Every strength may be traced, and at strength 0 the images
come back exactly. Each example draws for itself, but for the λ of mixup and CutMix. The same key
draws the same in every dtype.
"""

from regjax.augment.erasing import cutout
from regjax.augment.geometry import (
    affine,
    affine_matrices,
    elastic,
    gaussian_filter,
    random_affine,
    sample,
)
from regjax.augment.mixing import cutmix, mix, mixup, partners
from regjax.augment.morphology import dilate, erode, random_thickness
from regjax.augment.shifting import random_crop_flip, random_flip, random_shift

__all__ = [
    "affine",
    "affine_matrices",
    "cutmix",
    "cutout",
    "dilate",
    "elastic",
    "erode",
    "gaussian_filter",
    "mix",
    "mixup",
    "partners",
    "random_affine",
    "random_crop_flip",
    "random_flip",
    "random_shift",
    "random_thickness",
    "sample",
]
