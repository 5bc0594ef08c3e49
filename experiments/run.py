"""Runs the scripts of `experiments.claims` and writes a ledger of what they found.

python -m experiments.run --all [--scale=small] [--workdir=runs/evidence] [--jobs=2]
python -m experiments.run --papers  # those of experiments.papers
python -m experiments.run --only=P1,T3

Each script is a process of its own, `--jobs` of them at a time. What has been decided with the same
settings by the same script is not measured again, so a run that was ended goes on where it was.
`--all --scale=small` takes half an hour on 2 CPU cores, `--papers` as long. The ledger is
`LEDGER.md` of the workdir.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from absl import flags

from experiments import claims, cli, evidence, ledger, papers, processes
from experiments.evidence import Setting
from regjax import workdir
from regjax.errors import InputError, did_you_mean

_ALL = flags.DEFINE_boolean("all", False, "every claim")
_PAPERS = flags.DEFINE_boolean("papers", False, "every paper's table")
_ONLY = flags.DEFINE_list("only", [], "claims by their ids")
_JOBS = flags.DEFINE_integer("jobs", os.cpu_count() or 1, "scripts at a time", lower_bound=1)


def scripts() -> dict[str, Any]:
    """Every script of `experiments.claims` and `experiments.papers` as a module, by its name."""
    return {
        name: importlib.import_module(f"{package.__name__}.{name}")
        for package in (claims, papers)
        for _, name, _ in pkgutil.iter_modules(package.__path__)
    }


def chosen(found: dict[str, Any], packages: list[ModuleType], only: list[str]) -> dict[str, Any]:
    """The scripts of some packages, or those that decide the claims that are asked for.

    Raises:
      InputError: nothing is asked for, or a claim that there is no script for.
    """
    known = {claim: name for name, module in found.items() for claim in module.CLAIMS}
    if bool(packages) == bool(only):
        raise InputError(f"give --all, --papers, or --only with some of {', '.join(sorted(known))}")
    for claim in only:
        if claim not in known:
            hint = did_you_mean(claim, list(known)) or f"; there are {', '.join(sorted(known))}"
            raise InputError(f"no script decides the claim '{claim}'{hint}")
    wanted = [package.__name__ for package in packages]
    names = {name for name, module in found.items() if module.__package__ in wanted}
    return {name: found[name] for name in sorted(names or {known[claim] for claim in only})}


def decided(module: Any, setting: Setting) -> bool:
    """Whether all claims of a script have been decided, by this script with these settings."""
    wanted = {**setting.of(module).identity, "source": evidence.source(module)}
    for claim in module.CLAIMS:
        made = ledger.read(setting.workdir / claim / "claim.json")
        if made is None or any(made[name] != value for name, value in wanted.items()):
            return False
    return True


@contextlib.contextmanager
def held(setting: Setting) -> Iterator[None]:
    """Makes the workdir one of these settings, and this process the one that measures in it.

    Raises:
      InputError: it is of other settings, whose results would be lost, another process measures in
        it, or it cannot be written.
    """
    file = setting.workdir / "setting.json"
    with workdir.alone(setting.workdir, "measuring"):
        with contextlib.suppress(OSError, ValueError):
            there = json.loads(file.read_text())
            if there != setting.identity:
                raise InputError(
                    f"'{setting.workdir}' holds results of {there}, not of {setting.identity}; "
                    "give another --workdir"
                )
        file.write_text(json.dumps(setting.identity) + "\n")
        yield


def command(module: Any, setting: Setting) -> list[str]:
    """How a script is started."""
    return [
        sys.executable,
        "-m",
        module.__name__,
        f"--scale={setting.scale}",
        f"--workdir={setting.workdir}",
        f"--first_seed={setting.seeds[0]}",
        f"--seeds={len(setting.seeds)}",
    ]


def main(values: flags.FlagValues) -> int:
    """Runs what is missing and writes the ledger; 1 if a script has failed."""
    setting = evidence.setting_of(values)
    packages = [package for package, flag in ((claims, _ALL), (papers, _PAPERS)) if flag.value]
    wanted = list(chosen(scripts(), packages, _ONLY.value).values())
    with held(setting):
        failed = run(wanted, setting)
        print(f"ledger: {ledger.write(setting.workdir, setting.workdir)}")
    return int(failed)


def run(wanted: list[Any], setting: Setting) -> bool:
    """Runs those scripts whose claims are not decided yet; whether one has failed."""
    missing = [module for module in wanted if not decided(module, setting)]
    if done := len(wanted) - len(missing):
        print(f"{done} of {len(wanted)} scripts have been run", flush=True)
    failed = False
    commands = [command(module, setting) for module in missing]
    for number, code, output, seconds in processes.side_by_side(commands, _JOBS.value):
        module = missing[number]
        failed |= code != 0
        verdicts = output.splitlines()[-len(module.CLAIMS) :]  # after what a study may say
        told = "\n".join(verdicts) if code == 0 else f"failed with exit code {code}:\n{output}"
        print(f"{module.__name__.split('.')[-1]}, {seconds:.0f} s\n{told}", flush=True)
    return failed


if __name__ == "__main__":
    evidence.define_flags()
    cli.run(main)
