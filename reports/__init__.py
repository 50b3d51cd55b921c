"""From a finished run to something to read: a module for each format, found by its name.

A reporter is a function `name(results: Results, *, examples: bool = True) -> str | bytes` in the module of
its name. Modules that begin with `_` are shared parts: `_verdict` lays a decision out and `_case` packs it
for the page, `_view` lays a task out, `_plots`, `_figures` and `_svg` draw, `_examples` packs outputs,
`_provenance` says where numbers come from, `_summary` gives them raw. What a verdict says in words is
`harness.wording`'s.
"""
