"""AlexNet on CIFAR-10, in MindSpore: the data set, the network, its training and its evaluation."""

import os

# Read by MindSpore when it is first imported: errors only. Its checks for CUDA and Ascend libraries warn on every CPU.
os.environ.setdefault("GLOG_v", "3")
# Read by GNU OpenMP when it is first loaded: oneDNN's threads sleep between two layers. By default they spin, on the
# cores that MindSpore's threads need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Read by Protocol Buffers when they are first imported, by MindSpore or by ONNX: MindSpore needs these.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
