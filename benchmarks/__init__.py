"""Benchmarks: how fast this machine trains, evaluates and saves. See `python -m benchmarks --help`."""
