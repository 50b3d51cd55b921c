"""The command line: `app` lists the commands; each is in a module of its own, imported when called."""

from breakeven.harness.cli.app import main

__all__ = ["main"]
