"""Which regularization is best? The experiment that this project started from, done again.

X1. "Batch norm is better than layer norm, which is better than none; the penalty and the learning
rate decide nothing."

Method: `regjax study` as in configs/study_digits.py, an MLP on 300 digits; 12 arms of norm and
penalty at equal budget, the same quasi-random points for all, and each arm's best setting again on
fresh seeds and splits, looked at once on `test`. At full scale configs/study_seed.py, the CNN on
1,000 images of MNIST. The seeds of the setting are those of the confirmation in number, and its
first is the study's own seed.
Figure: test accuracy of each arm. Verdict: averaged over penalties, batch norm's test accuracy is
above layer norm's and that above none's; averaged over norms, each penalty is within half a point
(MNIST: 0.2) of none.
"""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

import regjax
from experiments import evidence, figures
from experiments.evidence import Evidence, Finding, Setting
from regjax import config as config_lib
from regjax.config import StudyConfig

CLAIMS = {"X1": "Batch norm > layer norm > none; penalties cannot be told apart."}
NORMS, PENALTIES = ("none", "batch", "layer"), ("none", "l1", "l2", "elastic")
Table = np.ndarray  # test accuracy in percent, (norms, penalties, seeds)


def study(setting: Setting) -> StudyConfig:
    """The study's config."""
    name = "configs/study_seed.py" if setting.full else "configs/study_digits.py"
    changes = {"seed": setting.seeds[0], "study.confirm": len(setting.seeds)}
    made = config_lib.with_setting(config_lib.load(name), changes)
    assert isinstance(made, StudyConfig)
    return made


def confirmed(setting: Setting) -> Table:
    """What the study finds; goes on with one that was begun."""
    found = regjax.study(study(setting), str(setting.workdir / "X1" / "study"))
    rows = found.confirmation
    table = [
        [
            rows[(rows["model.norm"] == norm) & (rows["penalty.name"] == penalty)]
            .sort_values("seed")["test_accuracy"]
            .to_numpy()
            for penalty in PENALTIES
        ]
        for norm in NORMS
    ]
    return 100 * np.array(table, float)


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    table = confirmed(setting)
    norms = dict(zip(NORMS, table.mean(axis=1), strict=True))
    penalties = dict(zip(PENALTIES, table.mean(axis=0), strict=True))
    what, margin = "difference in test accuracy", 0.2 if setting.full else 0.5
    points = partial(Finding, what=what, unit="points")
    findings = [
        points("batch norm − layer norm", values=norms["batch"] - norms["layer"]),
        points("layer norm − none", values=norms["layer"] - norms["none"]),
        *(
            points(
                f"{penalty} − no penalty",
                values=penalties[penalty] - penalties["none"],
                claimed="within",
                margin=margin,
            )
            for penalty in PENALTIES[1:]
        ),
    ]
    data = "1,000 images of MNIST, CNN" if setting.full else "300 digits, MLP"
    return {"X1": Evidence(findings, lambda figure: draw(figure, table), data)}


def draw(figure: Figure, table: Table) -> None:
    """Each arm's accuracy, a group a norm."""
    figure.set_size_inches(8, 5)
    axes = figure.subplots()
    arms = {
        f"{norm} norm, {penalty} penalty".replace("none norm", "no norm").replace("none", "no"): of
        for norm, row in zip(NORMS, table, strict=True)
        for penalty, of in zip(PENALTIES, row, strict=True)
    }
    figures.bars(axes, arms)
    axes.set(xlabel="test accuracy, percent")


if __name__ == "__main__":
    evidence.script()
