"""What cannot be trained although each field is right: what they are together, with the data.

Each check is given `assembly.Assembled`, which imports this module, and returns one line or None.
"""

import math
from typing import Any

import jax

from regjax import augmentation, models, optimizer, parallel, trees
from regjax.averaging import STATISTICS


def find(parts: Any) -> str | None:
    """What a run cannot do, or None."""
    checks = (_memory, _stream, _batch, _accumulate, _parts, _sync, _mask, _zero, _stored)
    return next((message for check in checks if (message := check(parts))), None)


def find_in_batches(parts: Any) -> str | None:
    """What a run's batches cannot be, or None; of a refit nothing else is new."""
    return _batch(parts) or _parts(parts)


def find_in_data(parts: Any) -> str | None:
    """What a run cannot do with its data, or None."""
    config, data = parts.config, parts.data
    if config.stopping.refit != "none" and not data.splits["valid"].examples:
        return (
            f"data.valid is empty but stopping.refit is '{config.stopping.refit}', which trains on "
            "train + valid; give data.valid a size, or set stopping.refit to none"
        )
    if config.stopping.monitor.startswith("valid") and not data.splits["valid"].examples:
        return (
            f"data.valid is empty but stopping.monitor is '{config.stopping.monitor}'; give "
            "data.valid a size, or monitor train_loss"
        )
    if augmentation.changes_images(config.augment, parts.strengths) and len(data.input_shape) != 3:
        return (
            f"augment is for images, but the examples of {config.data.name} have the shape "
            f"{data.input_shape}; of the augmentations they can have augment.mix=mixup alone"
        )
    if config.augment.shift and config.augment.shift >= min(data.input_shape[:2]):
        height, width, _ = data.input_shape
        return (
            f"augment.shift is {config.augment.shift:g}, by which images of {height} × {width} "
            "pixels can be moved out of sight; make it smaller"
        )
    return None


def _memory(parts: Any) -> str | None:
    """What no device can hold: a compiler would hang or end the process over it."""
    there = parallel.memory()
    leaves = jax.tree.leaves(parts.shapes().train)
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    needed //= parts.config.parallel.shards
    if there is None or needed <= there:
        return None
    return (
        f"the network and its optimizer would take {needed / 2**30:,.1f} GiB of a device's "
        f"{there / 2**30:,.1f}; make model.widths, model.channels or model.depth smaller, or raise "
        "parallel.shards"
    )


def _stream(parts: Any) -> str | None:
    config = parts.config
    if not parts.data.streamed:
        return None
    if config.evaluate_every > 1:
        return (
            f"evaluate_every is {config.evaluate_every}, but {config.data.name} is streamed, each "
            "epoch followed by the validation split; set evaluate_every to 1"
        )
    if config.optimizer.average == "none":
        return None
    if STATISTICS not in parts.shapes().train.statistics:
        return None
    return (
        f"optimizer.average is '{config.optimizer.average}', whose batch statistics take a pass "
        f"over the training set after each epoch, but {config.data.name} is streamed; set "
        "optimizer.average to none, or model.norm to one without them"
    )


def _sizes(parts: Any) -> tuple[int, int, int]:
    """How many examples there are to train on, in a batch, and in an epoch's last."""
    examples = parts.data.splits["train"].examples
    size = min(parts.config.batch_size, examples)
    return examples, size, examples % size or size


def _batch(parts: Any) -> str | None:
    config, (examples, size, last) = parts.config, _sizes(parts)
    norm, groups = config.model.norm, config.model.norm_groups
    if norm == "ghost_batch" and size % groups:
        return (
            f"model.norm_groups is {groups}, which does not divide the batch of {size}; change "
            "model.norm_groups or batch_size"
        )
    part = size // groups if norm == "ghost_batch" else size
    if norm in models.BATCH_NORMS and (part == 1 or last % part == 1):
        return (
            f"batch_size is {config.batch_size} and data.train {examples}, so the last batch, or "
            "a group of it, has one example, which has no batch statistics; change either by one, "
            "or model.norm"
        )
    return None


def _accumulate(parts: Any) -> str | None:
    """What the norms by a batch cannot do of micro-batches."""
    config, spread, count = parts.config, parts.parallel.spread, parts.config.accumulate
    norm, (_, size, last) = config.model.norm, _sizes(parts)
    if count == 1 or norm not in models.BATCH_NORMS:
        return None
    held = -(-size // spread.parts)
    if spread.axis_name and held % count:  # its examples would be in other micro-batches
        return (
            f"accumulate is {count}, which does not divide the {held} examples of a batch that "
            f"each of {spread.parts} devices has; change it or batch_size, or set parallel.mode to "
            "jit"
        )
    own = not config.parallel.sync_norm and norm == "batch"
    groups = config.model.norm_groups if norm == "ghost_batch" else spread.parts if own else 1
    if groups > 1 and (size % (count * spread.parts) or size // count % groups):
        return (
            f"accumulate is {count}, but micro-batches of a batch of {size} are not divided evenly "
            f"by {spread.parts} devices and {groups} groups of model.norm; change any"
        )
    rows = -(-size // (count * groups))
    # Under pmap a device that normalizes by itself has a full part or what is left.
    batches = {held, size % held, last % held} if own and spread.axis_name else {size, last}
    micro = {n for batch in batches for n in (batch // count, -(-batch // count))}
    if rows == 1 or any(n % rows == 1 for n in micro):
        return (
            f"accumulate is {count}, which of a batch of {size}, or of the last of {last}, leaves "
            "a micro-batch, or a group of it, with one example, which has no batch statistics; "
            "change accumulate, batch_size or model.norm"
        )
    return None


def _parts(parts: Any) -> str | None:
    """What the norms by a batch cannot do of a batch in parts."""
    config, spread = parts.config, parts.parallel.spread
    norm, (examples, size, last) = config.model.norm, _sizes(parts)
    if spread.axis_name and norm in ("ghost_batch", "batch_renorm"):
        return f"parallel.mode is 'pmap', which has no model.norm '{norm}'; set it to jit"
    if norm == "ghost_batch" and size % spread.parts:  # padding would move its groups
        return (
            f"model.norm is 'ghost_batch', whose groups need a batch that {spread.parts} devices "
            f"divide evenly, but it has {size}; change batch_size, or set parallel.mode to single"
        )
    if config.parallel.sync_norm or norm != "batch" or spread.parts == 1:
        return None
    part = -(-size // spread.parts)
    if any(part == 1 or batch % part == 1 for batch in (size, last)):
        return (
            f"batch_size is {config.batch_size} and data.train {examples}, which leaves one of "
            f"{spread.parts} devices a single example, without statistics of its own; change "
            "either, or set parallel.sync_norm"
        )
    return None


def _sync(parts: Any) -> str | None:
    """Which batch statistics cannot be those of the whole batch, or of each device's part."""
    config, spread = parts.config, parts.parallel.spread
    norm, name, sync = config.model.norm, config.model.name, config.parallel.sync_norm
    if spread.parts == 1:
        return None
    if not sync and norm in ("ghost_batch", "batch_renorm"):
        return (
            f"parallel.sync_norm is off, which model.norm '{norm}' has no use for; set it, or "
            "model.norm to batch"
        )
    by_part = spread.axis_name is not None  # what a network of your own, as it stands, sees
    if not name.startswith(models.OWN) or by_part != sync:
        return None
    if STATISTICS not in parts.shapes().train.statistics:
        return None
    mode, sees = ("pmap", "its device's part of") if by_part else ("jit", "the whole of")
    return (
        f"model.name is '{name}', whose batch statistics under parallel.mode '{mode}' are those of "
        f"{sees} a batch; set parallel.sync_norm to {not sync}, or change parallel.mode"
    )


def _mask(parts: Any) -> str | None:
    rules = optimizer.rules(parts.config)
    params = parts.shapes().train.params if rules else {}
    for name, rule in rules.items():
        if not trees.names(params, rule):
            return f"{name} is '{rule}', which matches no parameter; they are " + ", ".join(
                trees.names(params)
            )
    return None


def _zero(parts: Any) -> str | None:
    """Which kernels of zeros would be divided by their length."""
    model = parts.config.model
    if model.kernels not in ("weight_norm", "spectral_norm"):
        return None
    kernels = trees.named(parts.shapes().train.params, model.kernels_mask)
    wide = any(leaf.shape[-1] > leaf.shape[-2] for leaf in kernels.values() if leaf.ndim > 1)
    some = model.initializer == "identity" and model.kernels == "weight_norm" and wide
    recurrent = any(name.endswith("recurrent/kernel") for name in kernels)
    if model.rescale == "fixup":
        given = "model.rescale is 'fixup'"
    elif model.initializer == "zeros" or some:
        given = f"model.initializer is '{model.initializer}'"
    elif model.initializer_scale == 0:
        given = "model.initializer_scale is 0"
    elif recurrent and model.recurrent_initializer == "zeros":
        given = "model.recurrent_initializer is 'zeros'"
    else:
        return None
    return (
        f"{given}, which starts units at 0, but model.kernels is '{model.kernels}', which divides "
        "by their length; change either"
    )


def _stored(parts: Any) -> str | None:
    """What acts on kernels as they are stored where the network uses others made of them."""
    config, kind = parts.config, parts.config.model.kernels
    penalty, constraint = config.penalty, config.constraint
    acting = []  # on which parameters, and what undoes it
    if constraint.name != "none":
        acting.append((constraint.mask, f"constraint.name is '{constraint.name}'", "none"))
    if kind == "weight_norm" and penalty.mode == "proximal" and penalty.name != "none":
        acting.append((penalty.mask, "penalty.mode is 'proximal'", "loss"))  # units of 0 have no w
    if kind == "plain" or not acting:
        return None
    params = trees.named(parts.shapes().train.params, config.model.kernels_mask)
    others = [name for name, leaf in params.items() if leaf.ndim > 1]
    for rule, given, change in acting:
        if any(map(trees.matcher(rule), others)):
            return (
                f"{given}, which acts on kernels as they are stored, but model.kernels is "
                f"'{kind}', so the network uses others; set {given.split()[0]} to {change}, or "
                "model.kernels to plain"
            )
    return None
