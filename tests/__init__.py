"""Tests; what they use, they make."""
