"""The networks. Each module here has one, as `NETWORK`, under the name that `model.name` of params.yaml gives."""
