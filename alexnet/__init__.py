"""AlexNet on CIFAR-10, in MindSpore: the data set, the network, its training and its evaluation."""

import os

# Read by MindSpore when it is first imported: errors only. Its checks for CUDA and Ascend libraries warn on every CPU.
os.environ.setdefault("GLOG_v", "3")
# Read by Protocol Buffers when they are first imported, by MindSpore or by ONNX: MindSpore needs these.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
