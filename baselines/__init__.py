"""The strategies that come with Breakeven.

`levers` composes prompting, retrieval and fine-tuning; `majority`, `nearest_neighbour`,
`logistic_regression` and `setfit` need no language model. Named settings of them stand in presets.yaml.
Modules that begin with an underscore are their parts. Everything is written against the contract that users
write against.
"""
