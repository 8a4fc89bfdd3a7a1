"""The tests. They generate all data that they use."""
