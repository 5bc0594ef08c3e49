"""`regjax inspect`: what `regjax.diagnostics` says of a trained run."""

from regjax.inspect.measures import inspect
from regjax.inspect.output import show, write

__all__ = ["inspect", "show", "write"]
