"""Early stopping as an immutable value: decided on the device, acted on by the loop.

Every criterion is a pytree with `update(epoch, metric, train_loss) -> new`, and says in `stopped`,
`best` and `best_epoch` what the loop needs to know. Its numbers are traced: a vector of them vmaps.
"""

from regjax.stopping.criterion import Never, Reached, StoppingCriterion
from regjax.stopping.patience import EarlyStopping
from regjax.stopping.prechelt import GL, PQ, UP, generalization_loss, training_progress

__all__ = [
    "GL",
    "PQ",
    "UP",
    "EarlyStopping",
    "Never",
    "Reached",
    "StoppingCriterion",
    "generalization_loss",
    "training_progress",
]
