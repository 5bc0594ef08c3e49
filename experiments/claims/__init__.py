"""The claims that people repeat about regularization, a script for each or for a family of them.

`../run.py` runs them, `../evidence.py` has the rule of the verdicts, and what was found is
in `../results/LEDGER.md`.
"""
