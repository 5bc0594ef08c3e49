"""regjax: which regularization helps, and how much, answered in JAX.

Import the part you need (`from regjax import penalties, normalization`); importing `regjax` itself
loads nothing else, so that the command line can answer before JAX is up.
"""

__version__ = "0.1.0"
