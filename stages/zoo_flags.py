"""The flags of the model zoo's AlexNet, as in its train.py and eval.py.

They override values of params.yaml. The network is still the one that `model.name` gives.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

PATHS = {
    "train": {"data_path": "folder with the training files", "ckpt_path": "folder for what is written"},
    "evaluate": {"data_path": "folder with test_batch.bin", "ckpt_path": "checkpoint file"},
}
"""The stages that take the flags, and what a path means in each."""


def parse(parser: argparse.ArgumentParser, stage: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Add the flags of a stage, one of PATHS, to its parser, and parse them.

    Beside the paths, the result has `overrides`, as `params.read` takes them, and `any_given`, whether there was one.
    """
    for name, text in PATHS[stage].items():
        parser.add_argument(f"--{name}", type=Path, help=text)
    sections = {"device_target": stage, "batch_size": stage, "image_height": "model", "image_width": "model"}
    if stage == "train":
        sections["epoch_size"] = "train"
    for key, section in sections.items():
        parser.add_argument(f"--{key}", help=f"overrides {section}.{key} of params.yaml")
    flags = parser.parse_args(arguments)
    flags.any_given = any(value is not None for value in vars(flags).values())
    flags.overrides = {
        (section, key): text for key, section in sections.items() if (text := getattr(flags, key)) is not None
    }
    return flags
