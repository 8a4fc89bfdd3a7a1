"""The layers' CPU kernels: oneDNN, called through its C API, in the place of MindSpore's own operators."""
