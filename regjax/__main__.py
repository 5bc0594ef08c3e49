"""`python -m regjax`, the same as `regjax`."""

from regjax.cli import run

if __name__ == "__main__":
    run()
