"""Benchmarks: how fast this machine trains, evaluates and saves; `python -m benchmarks --help`."""
