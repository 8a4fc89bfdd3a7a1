"""The evaluation of a network on labelled images."""
