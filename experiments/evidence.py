"""A claim's verdict from figures over seeds, and what the scripts of claims share.

A script of `experiments.claims` or `experiments.papers` has `CLAIMS`, the statements it tests by
their ids, and `measure(setting)`, which returns an `Evidence` for each. An evidence is findings:
one figure a seed, under one condition, and on which side of which margin the claim has it.

The rule, of all claims: a finding holds where the 95 % interval of its mean over the seeds (the
smoothed bootstrap-t of `regjax.comparison`) lies on the claimed side of the margin, fails where it
lies on the other, and cannot be told otherwise. A claim whose findings all hold is confirmed, one
whose findings all fail is refuted, and any other depends, on the conditions that are named.
"""

import hashlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import cli, figures
from regjax import train
from regjax.comparison import Estimate, estimate
from regjax.errors import InputError

SCALES = {"small": 10, "full": 20}  # seeds
WORDS = {"holds": "holds", "fails": "fails", "open": "cannot be told"}


class Setting(NamedTuple):
    """How a script is run.

    Attributes:
      scale: `small` (minutes, on data that come with scikit-learn) or `full`.
      seeds: of the runs, each with its own start, split and order of examples.
      workdir: where its files go.
    """

    scale: str
    seeds: range
    workdir: Path

    @property
    def full(self) -> bool:
        """Whether there is time for more than the smallest study that decides."""
        return self.scale == "full"

    def of(self, module: Any) -> "Setting":
        """That of a script: one whose intervals come close to a margin has `TIMES` the seeds."""
        first, count = self.seeds[0], len(self.seeds)
        return self._replace(seeds=range(first, first + count * getattr(module, "TIMES", 1)))

    @property
    def identity(self) -> dict[str, Any]:
        """What makes results of one setting comparable, as it stands in files."""
        return {
            "scale": self.scale,
            "seeds": len(self.seeds),
            "first_seed": self.seeds[0],
        }


@dataclass(frozen=True)
class Finding:
    """One figure that a claim says something about.

    Attributes:
      condition: under which it was measured, a few words.
      what: what it is, with its sign: "accuracy with batch norm − without".
      values: one for each seed.
      claimed: it is `above` or `below` the margin, or `within` ± the margin.
      margin: in the figure's unit.
      unit: of the figure; "" if it has none.
      paper: what a paper has for it, if it is of one.
    """

    condition: str
    what: str
    values: np.ndarray
    claimed: str = "above"
    margin: float = 0.0
    unit: str = ""
    paper: str = ""

    @property
    def estimate(self) -> Estimate:
        """The mean over the seeds with its interval."""
        return estimate(np.asarray(self.values, float))

    @property
    def outcome(self) -> str:
        """`holds`, `fails` or `open`.

        >>> Finding("", "gain", np.array([0.1, 0.2, 0.15])).outcome
        'holds'
        """
        _, low, high = self.estimate
        if self.claimed == "within":
            holds = -self.margin <= low and high <= self.margin
            fails = low > self.margin or high < -self.margin
        else:
            holds, fails = low > self.margin, high < self.margin
        if self.claimed == "below":
            holds, fails = fails, holds
        return "holds" if holds else "fails" if fails else "open"

    def record(self) -> dict[str, Any]:
        """What `claim.json` says of it."""
        mean, low, high = self.estimate
        return {
            "condition": self.condition,
            "what": self.what,
            "unit": self.unit,
            "mean": mean,
            "interval": [low, high],
            "claimed": self.claimed,
            "margin": self.margin,
            "paper": self.paper,
            "outcome": self.outcome,
            "values": np.asarray(self.values, float).tolist(),
        }


class Evidence(NamedTuple):
    """What a script has found about a claim.

    Attributes:
      findings: the first is the one that a reader wants to know first.
      draw: draws it all on an empty figure.
      data: what it was measured on, a few words.
    """

    findings: list[Finding]
    draw: Callable[[Figure], None]
    data: str


def verdict(findings: list[Finding]) -> str:
    """`confirmed`, `refuted` or `depends`, by the rule above.

    >>> verdict([Finding("", "gain", np.ones(3)), Finding("", "loss", np.ones(3), "below")])
    'depends'
    """
    outcomes = {finding.outcome for finding in findings}
    return {"holds": "confirmed", "fails": "refuted"}.get("".join(outcomes), "depends")


def condition(findings: list[Finding]) -> str:
    """What a verdict depends on: which conditions hold, which fail, and which cannot be told."""
    said = []
    for outcome, word in WORDS.items():
        if those := [f.condition for f in findings if f.outcome == outcome]:
            said.append(f"{word}: {'; '.join(those)}")
    return ". ".join(said)


def record(name: str, statement: str, evidence: Evidence, setting: Setting) -> dict[str, Any]:
    """What `claim.json` holds, but for the seconds."""
    first = evidence.findings[0].record()
    return {
        "id": name,
        "statement": statement,
        "verdict": verdict(evidence.findings),
        "condition": condition(evidence.findings),
        "effect": first["mean"],
        "interval": first["interval"],
        "what": first["what"],
        "unit": first["unit"],
        **setting.identity,
        "data": evidence.data,
        "findings": [finding.record() for finding in evidence.findings],
        "versions": train.versions(),
    }


def source(module: Any) -> str:
    """A hash of a script: with another one, its claims are measured anew."""
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:16]


def save(folder: Path, made: Mapping[str, Any], draw: Callable[[Figure], None]) -> None:
    """Writes `figure.png` and then `claim.json`, which is there only if all is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figure.png").write_bytes(figures.render(draw))
    draft = folder / f".claim.{os.getpid()}"
    draft.write_text(json.dumps(made, indent=1, allow_nan=True) + "\n")
    draft.replace(folder / "claim.json")


def decide(module: Any, setting: Setting) -> dict[str, dict[str, Any]]:
    """Measures all claims of a script and writes their files; returns their records."""
    setting = setting.of(module)
    setting.workdir.mkdir(parents=True, exist_ok=True)  # if it cannot be, rather now than after
    started, made = time.perf_counter(), {}
    script = source(module)  # before it may be edited
    found = module.measure(setting)
    seconds = round(time.perf_counter() - started, 1)
    for name, evidence in found.items():
        made[name] = record(name, module.CLAIMS[name], evidence, setting)
        made[name] |= {"seconds": seconds, "source": script}
        save(setting.workdir / name, made[name], evidence.draw)
    return made


def line(made: Mapping[str, Any]) -> str:
    """A claim's record in a line."""
    low, high = made["interval"]
    return (
        f"{made['id']:3} {made['verdict']:9}  {made['statement']}  [{made['what']}: "
        f"{made['effect']:.3g} ({low:.3g} to {high:.3g}){' ' * bool(made['unit'])}{made['unit']}, "
        f"{made['seeds']} seeds]  {made['condition']}"
    )


def define_flags() -> None:
    """Defines what every script of evidence takes."""
    flags.DEFINE_enum("scale", "small", list(SCALES), "how much is trained")
    flags.DEFINE_string("workdir", "runs/evidence", "where results are written")
    flags.DEFINE_integer("seeds", 0, "how many; 0: as the scale has it", lower_bound=0)
    flags.DEFINE_integer("first_seed", 0, "the first of them", lower_bound=0)


def setting_of(values: flags.FlagValues) -> Setting:
    """The setting that flags ask for.

    Raises:
      InputError: seeds that do not exist.
    """
    count = values.seeds or SCALES[values.scale]
    if count == 1:
        raise InputError("--seeds=1 has no interval; give 2 or more")
    if values.first_seed + count > 2**31:
        raise InputError(f"--first_seed={values.first_seed} is too large for {count} seeds")
    seeds = range(values.first_seed, values.first_seed + count)
    return Setting(values.scale, seeds, Path(values.workdir))


def script() -> None:
    """What a script of `experiments.claims` or `.papers` does when it is run."""
    define_flags()
    module = sys.modules["__main__"]

    def main(values: flags.FlagValues) -> None:
        from regjax import programs

        programs.keep()
        for made in decide(module, setting_of(values)).values():
            print(line(made), flush=True)

    cli.run(main)
