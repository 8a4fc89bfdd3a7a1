"""Commands that run whole experiments and compare them: `python -m tools`. The Makefile has a target for each."""
