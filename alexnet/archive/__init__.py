"""The CIFAR-10 archive: downloading it, or drawing a stand-in for it, and checking it."""
