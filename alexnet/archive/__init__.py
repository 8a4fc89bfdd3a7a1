"""The CIFAR-10 archive: downloading it, or generating a stand-in for it, and checking it."""
