"""The engine room: contracts, ledger, statistics, runs and the command line.

Importing this package loads nothing heavy; `breakeven.harness.contracts` names what a task, strategy or
engine must be.
"""
