"""The command line: `app` lists the commands, each in a module of its own that is imported when it is called."""

from breakeven.harness.cli.app import main

__all__ = ["main"]
