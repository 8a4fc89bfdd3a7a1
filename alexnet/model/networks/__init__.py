"""The networks. Each module has one, called `NETWORK`; `model.name` of params.yaml is the name of a module."""
