"""The stages of the pipeline: each reads the parameters, calls the library and writes its outputs."""

import sys

from alexnet.runtime.errors import tell

if sys.argv[:1] == ["-m"]:  # Python is still looking for the module that it was asked to run
    _, _, _stage = sys.orig_argv[-len(sys.argv)].partition("stages.")
    if _stage and _stage != "__main__":
        tell(f"`python -m stages.{_stage}` runs nothing: type `python -m stages {_stage}`, with the same arguments")
        sys.exit(2)
