"""The kernels that compute the layers: oneDNN's on CPUs, called through its C API, or MindSpore's own operators."""
