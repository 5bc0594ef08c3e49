"""Benchmarks: regjax and its peers on the same work, in turn, in one run."""
