"""The stages of the pipeline: each reads the parameters, calls the library and writes its outputs."""

import sys

from alexnet.runtime.errors import print_error

if sys.argv[:1] == ["-m"]:  # Python is still searching for the module that it will run
    # With `python -m stages.train --epoch_size 1`, sys.argv is now ["-m", "--epoch_size", "1"]. The argument of Python
    # that `-m` stands for is the third from the end of sys.orig_argv: "stages.train", or "-mstages.train" without a
    # space.
    _, _, _stage = sys.orig_argv[-len(sys.argv)].partition("stages.")
    if _stage and _stage != "__main__":
        print_error(f"`python -m stages.{_stage}` does nothing: type `python -m stages {_stage}` instead")
        sys.exit(2)
