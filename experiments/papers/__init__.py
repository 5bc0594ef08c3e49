"""Tables and figures of papers, measured again: a script for each, beside the paper's own figures.

They have the form of the scripts of `experiments.claims`, run with `python -m experiments.run
--papers`, and stand in the second table of `../results/LEDGER.md`.
"""
