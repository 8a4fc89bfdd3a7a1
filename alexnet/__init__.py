"""AlexNet on CIFAR-10, in MindSpore: the data set, the network, its training and its evaluation."""

import os

# MindSpore reads this when it is imported: log errors only, because its checks for CUDA and Ascend libraries warn on
# every machine without them.
os.environ.setdefault("GLOG_v", "3")
# GNU OpenMP reads this when it is loaded: oneDNN's threads sleep between two layers. By default they would spin, on the
# cores that MindSpore's threads need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Protocol Buffers read this when they are imported, by MindSpore or by ONNX: MindSpore needs the Python implementation.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
