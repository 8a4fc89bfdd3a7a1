"""The CIFAR-10 archive: fetched, or drawn for a trial, and checked."""
