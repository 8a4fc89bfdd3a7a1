"""The parameters: their schema, and a function that reads them from params.yaml.

The schema has no defaults and converts nothing, so a stage computes with exactly the values in params.yaml, which DVC
tracks. This module can only refuse a value; that is why no stage depends on it in dvc.yaml.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from alexnet.cifar10 import HEIGHT, NUM_CLASSES, TRAIN_FILES
from alexnet.model import registry
from alexnet.runtime import choices
from alexnet.runtime.choices import MAX_CLASSES, MAX_IMAGE_SIZE
from alexnet.runtime.errors import InputError
from alexnet.runtime.urls import masked
from alexnet.training.batches import Flip, PaddingMode
from alexnet.training.schedule import Schedule

PATH = Path("params.yaml")
MAX_CHARACTERS = 100_000
"""How long params.yaml may be. The parser takes seconds for one of a megabyte."""
MAX_LEVELS = 20
"""How deep lists and mappings may be nested: the parser takes minutes for thousands of levels."""
MAX_PROBLEMS = 20
"""How many wrong keys and values are reported at once."""


def _allowed(text: str, **limits: Any) -> Any:
    return Field(description=text, **limits)


def _one_of(choice: Any) -> Any:
    *others, last = get_args(choice)
    return _allowed(f"{', '.join(others)} or {last}")


def _image_count(least: int) -> Any:
    text = f"a multiple of {NUM_CLASSES} from {least} to 10^7"
    return _allowed(text, ge=least, le=10**7, multiple_of=NUM_CLASSES)


AmpLevel = Annotated[choices.ChosenAmpLevel, _one_of(choices.ChosenAmpLevel)]
DeviceTarget = Annotated[choices.DeviceTarget, _one_of(choices.DeviceTarget)]
ImageSize = Annotated[int, _allowed(f"a whole number of pixels from 1 to {MAX_IMAGE_SIZE}", ge=1, le=MAX_IMAGE_SIZE)]
Kernels = Annotated[choices.ChosenKernels, _one_of(choices.ChosenKernels)]
Positive = Annotated[int, _allowed("a whole number from 1 to 10^9", ge=1, le=10**9)]
Share = Annotated[float, _allowed("a number of at least 0, below 1", ge=0, lt=1)]
Switch = Annotated[bool, _allowed("true or false")]
Threads = Annotated[Positive | Literal["auto"], _allowed("auto or a whole number from 1 to 10^9")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(_Section):
    """The images: the places to get the archive from, its MD5 (None accepts any), and the sizes of the splits."""

    urls: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        _allowed("a list of http(s):// or file:// addresses, paths or the word generated", min_length=1),
    ]
    md5: Annotated[
        Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None, _allowed("32 lower-case hexadecimal digits, or null")
    ]
    train_images: Annotated[int, _image_count(NUM_CLASSES * len(TRAIN_FILES))]
    test_images: Annotated[int, _image_count(NUM_CLASSES)]


class Model(_Section):
    """The network: its name, its number of outputs, its image size, dropout and batch normalisation."""

    name: Annotated[str, _allowed(" or ".join(registry.names()), pattern=f"^({'|'.join(registry.names())})$")]
    num_classes: Annotated[
        int, _allowed(f"a whole number from {NUM_CLASSES} to {MAX_CLASSES}", ge=NUM_CLASSES, le=MAX_CLASSES)
    ]
    image_height: ImageSize
    image_width: ImageSize
    dropout_rate: Share
    batch_norm: Switch


class Train(_Section):
    """Training: the device, workers and threads, the precision, the seed, the images, and the recipe."""

    device_target: DeviceTarget
    workers: Annotated[int, _allowed("a whole number from 1 to 64", ge=1, le=64)]
    threads: Threads
    kernels: Kernels
    amp_level: AmpLevel
    seed: Annotated[int, _allowed("a whole number of at least 0, below 2^32", ge=0, lt=2**32)]
    epoch_size: Positive
    batch_size: Positive
    validation_images: Annotated[
        int, _allowed(f"a multiple of {NUM_CLASSES} of at least 0", ge=0, multiple_of=NUM_CLASSES)
    ]
    crop_padding: Annotated[int, _allowed(f"a whole number of pixels from 0 to {HEIGHT // 2}", ge=0, le=HEIGHT // 2)]
    crop_padding_mode: Annotated[PaddingMode, _one_of(PaddingMode)]
    flip: Annotated[Flip, _one_of(Flip)]
    cutout_size: Annotated[int, _allowed(f"a whole number of pixels from 0 to {HEIGHT}", ge=0, le=HEIGHT)]
    weight_init: Annotated[choices.WeightInit, _one_of(choices.WeightInit)]
    whitening: Switch
    identity_init: Switch
    initial_weights: Annotated[
        Annotated[str, Field(pattern=r"^[^\x00]+$")] | None, _allowed("the path of a checkpoint, or null")
    ]
    learning_rate: Annotated[float, _allowed("a number above 0", gt=0)]
    lr_schedule: Annotated[Schedule, _one_of(Schedule)]
    warmup_ratio: Share
    momentum: Share
    use_nesterov: Switch
    weight_decay: Annotated[float, _allowed("a number of at least 0", ge=0)]
    batch_norm_bias_lr_factor: Annotated[float, _allowed("a number above 0", gt=0)]
    label_smoothing: Share
    ema_decay: Share


class Evaluate(_Section):
    """Evaluation: the device and threads, the precision, the batch size, and whether to use mirror images too."""

    device_target: DeviceTarget
    threads: Threads
    kernels: Kernels
    amp_level: AmpLevel
    batch_size: Positive
    mirror: Switch


class Run(_Section):
    """Settings that cannot change a result: the minimum download rate, data sinking, log lines and saved states."""

    minimum_download_rate: Annotated[float, _allowed("a number of at least 0", ge=0)]
    dataset_sink_mode: Annotated[Switch | Literal["auto"], _allowed("auto, true or false")]
    log_steps: Positive
    save_checkpoint_steps: Annotated[Positive | Literal["epoch"], _allowed("epoch or a whole number from 1 to 10^9")]
    keep_checkpoint_max: Positive
    keep_state: Switch


class Params(_Section):
    """All parameters of params.yaml."""

    data: Data
    model: Model
    train: Train
    evaluate: Evaluate
    run: Run


def read(overrides: Mapping[tuple[str, str], str] = {}, override: str = "--{key}") -> Params:
    """Read and check all of params.yaml in the working directory.

    Args:
        overrides: values that replace those in the file, as YAML texts by section and key.
        override: how an error names an overridden parameter, with `{section}` and `{key}` in it.

    Raises InputError, which names the first MAX_PROBLEMS wrong keys or flags, their values, and what is allowed.
    """
    yaml = YAML(typ="safe")  # YAML 1.2, as in DVC: 1e-3 is a number, 010 is ten, and yes is a text
    try:
        with PATH.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
        _check_size(text, yaml)
        values = yaml.load(text)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {PATH}: {error.strerror}; run this in the repository's folder") from None
    except MarkedYAMLError as error:  # its full message quotes the file, which may contain a password
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = str(error.problem).partition(" with value ")[0]
        raise InputError(f"{PATH} is not valid YAML: {' '.join(masked(problem).split())}{place}") from None
    except Exception as error:  # the parser raises exceptions of any type for a damaged file
        problem = masked(str(error) or type(error).__name__)
        raise InputError(f"{PATH} is not valid YAML: {' '.join(problem.split())}") from None
    for (section, key), text in overrides.items():
        if isinstance(values, dict) and isinstance(values.get(section), dict):
            try:
                values[section][key] = yaml.load(text)
            except Exception:  # it is not YAML, so it is a plain text
                values[section][key] = text
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        lines = dict.fromkeys(_line(details, overrides, override) for details in problems[:MAX_PROBLEMS])
        if len(problems) > MAX_PROBLEMS:
            lines[f"and {len(problems) - MAX_PROBLEMS} more"] = None
        raise InputError("; ".join(lines)) from None


def _check_size(text: str, yaml: YAML) -> None:
    # Refuses what would take the parser long, or becomes far larger than it is written: an alias may stand for a list
    # or a mapping with aliases in it, and so on.
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{PATH} has more than {MAX_CHARACTERS} characters: shorten it")
    levels, single = 0, set()
    for event in yaml.parse(text):
        levels += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if levels > MAX_LEVELS:
            raise InputError(f"{PATH} has lists and mappings nested more than {MAX_LEVELS} levels deep")
        if isinstance(event, CollectionStartEvent):
            single.discard(event.anchor)  # a name may be given again
        elif isinstance(event, ScalarEvent):
            single.add(event.anchor)
        elif isinstance(event, AliasEvent) and event.anchor not in single:
            line = event.start_mark.line + 1
            raise InputError(f"{PATH} has in line {line} an alias of a list or a mapping: write it out")


class _Shown(Repr):
    # Shows a wrong value in an error message, without secrets in URLs, and shortened, because a few lines of YAML can
    # stand for a huge list.

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxset = 2, 8, 8, 8
        self.maxstring, self.maxlong, self.maxother = 200, 200, 200

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(masked(x), level)


_SHOWN = _Shown()


def _line(error: ErrorDetails, overrides: Mapping[tuple[str, str], str], override: str) -> str:
    # Deeper parts of the location are the number of an item of a list, or alternatives of a union, which the line does
    # not name.
    location = [str(part) for part in error["loc"]]
    section = location[0] if location else ""
    key = location[1] if len(location) > 1 else ""
    if (section, key) in overrides:
        name = override.format(section=section, key=key)
    elif key:
        name = f"{PATH}: {section}.{key}"
    elif section:
        name = f"{PATH}: {section}"
    else:
        name = str(PATH)
    name = masked(name)  # a wrong key may be a URL in the wrong place
    if len(error["loc"]) > 2 and isinstance(error["loc"][2], int):
        name = f"item {error['loc'][2] + 1} of {name}"
    problem = "is missing" if error["type"] == "missing" else f"is {_SHOWN.repr(error['input'])}"
    allowed = _fields(section) if key else Params.model_fields  # in the place of the wrong key or value
    if error["type"] in ("extra_forbidden", "invalid_key"):
        close = get_close_matches(key or section, allowed, 1)
        expected = f"did you mean {close[0]}?" if close else f"expected {', '.join(allowed)}"
        return f"{name} {problem}, but there is no such key: {expected}"
    if key:
        return f"{name} {problem}, expected {allowed[key].description}"
    return f"{name} {problem}, expected the keys {', '.join(_fields(section) if section else allowed)}"


def _fields(section: str) -> Mapping[str, FieldInfo]:
    schema: Any = Params.model_fields[section].annotation
    fields: Mapping[str, FieldInfo] = schema.model_fields
    return fields
