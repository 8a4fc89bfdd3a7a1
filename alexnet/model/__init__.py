"""The network: its sizes, its layers and its checkpoints."""
