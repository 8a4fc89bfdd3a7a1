import argparse
import itertools
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from alexnet.runtime.choices import ChosenAmpLevel, DeviceTarget, WeightInit
from alexnet.runtime.errors import InputError
from alexnet.training.batches import Flip, PaddingMode
from alexnet.training.schedule import Schedule
from stages import params, zoo_flags
from tests.conftest import one_line
from tests.workspaces import ROOT

SECTIONS = {name: field.annotation for name, field in params.Params.model_fields.items()}
FIELDS: list[tuple[str, str]] = [
    (section, key)
    for section, schema in SECTIONS.items()
    for key in schema.model_fields  # type: ignore[union-attr]
]

COUNT = "a whole number from 1 to 10^9"
DEVICE = "auto, Ascend, GPU or CPU"
EPOCH = "epoch or a whole number from 1 to 10^9"
SHARE = "a number of at least 0, below 1"
SIZE = "a whole number of pixels from 1 to 1024"
THREADS = "auto or a whole number from 1 to 10^9"
URLS = "a list of http(s):// or file:// addresses, paths or the word generated"
MD5 = "32 lower-case hexadecimal digits, or null"

REFUSED: list[tuple[str, str, Any, str]] = [
    *(("data", "urls", value, URLS) for value in ("generated", [], [""], [1], None, {"a": "b"})),
    *(("data", "md5", value, MD5) for value in ("", "C32A1D4AB5D03F1284B67883E8D87530", "c32a", 12, "g" * 32)),
    *(
        ("data", "train_images", value, "a multiple of 10 from 50 to 10^7")
        for value in (40, 55, 10**8, 60.0, "50", True)
    ),
    *(("data", "test_images", value, "a multiple of 10 from 10 to 10^7") for value in (0, 15, -10, 10**8, None)),
    *(("model", "name", value, "alexnet") for value in ("AlexNet", "no-such-network", "", "alexnet\n", None, 1)),
    *(("model", "num_classes", value, "a whole number from 10 to 1000") for value in (9, 1001, 10.0, "10", True)),
    *(("model", key, value, SIZE) for key in ("image_height", "image_width") for value in (0, 1025, 96.5, "big")),
    *(
        (section, key, value, SHARE)
        for section, key in (
            ("model", "dropout_rate"),
            ("train", "warmup_ratio"),
            ("train", "momentum"),
            ("train", "label_smoothing"),
            ("train", "ema_decay"),
        )
        for value in (-0.1, 1, 1.5, "half", True, float("nan"), None)
    ),
    *(
        (section, "device_target", value, DEVICE)
        for section in ("train", "evaluate")
        for value in ("cpu", "TPU", 0, None, True)
    ),
    *(
        (section, "threads", value, THREADS)
        for section in ("train", "evaluate")
        for value in (0, -1, 1.5, "2", "all", True)
    ),
    *(("run", "dataset_sink_mode", value, "auto, true or false") for value in ("on", 1, 0, None)),
    *((of, "amp_level", value, "auto, O0 or O2") for of in ("train", "evaluate") for value in ("O1", "o2", 2, None)),
    *(
        (of, "kernels", value, "auto, onednn or mindspore")
        for of in ("train", "evaluate")
        for value in ("oneDNN", True, None)
    ),
    *(("train", "seed", value, "a whole number of at least 0, below 2^32") for value in (-1, 2**32, 1.0, "1", True)),
    *(
        ("train", "learning_rate", value, "a number above 0")
        for value in (0, -0.1, "high", float("inf"), float("nan"), True, None)
    ),
    *(
        (section, key, value, COUNT)
        for section, key in (
            ("train", "epoch_size"),
            ("train", "batch_size"),
            ("evaluate", "batch_size"),
            ("run", "log_steps"),
            ("run", "keep_checkpoint_max"),
        )
        for value in (0, -3, 10**9 + 1, 10**30, 1.5, "30", True, None)
    ),
    *(("train", "workers", value, "a whole number from 1 to 64") for value in (0, 65, 2.0, "2", True, None)),
    *(("run", "save_checkpoint_steps", value, EPOCH) for value in (0, 1.5, "step", "30", True, None)),
    *(
        (section, key, value, "true or false")
        for section, key in (
            ("model", "batch_norm"),
            ("train", "whitening"),
            ("train", "identity_init"),
            ("train", "use_nesterov"),
            ("evaluate", "mirror"),
            ("run", "keep_state"),
        )
        for value in (0, 1, "true", "yes", None)
    ),
    *(("train", "validation_images", value, "a multiple of 10 of at least 0") for value in (-10, 5, 10.0, None, True)),
    *(
        ("train", "crop_padding", value, "a whole number of pixels from 0 to 16")
        for value in (-1, 17, 2.0, "2", None, True)
    ),
    *(("train", "crop_padding_mode", value, "constant or reflect") for value in ("black", "edge", 0, True, None)),
    *(("train", "flip", value, "random or alternating") for value in ("never", True, None)),
    *(
        ("train", "cutout_size", value, "a whole number of pixels from 0 to 32")
        for value in (-1, 33, 12.0, "12", None, True)
    ),
    *(("train", "weight_init", value, "default, HeNormal or TruncatedNormal") for value in ("he", True, None)),
    *(
        ("train", "initial_weights", value, "the path of a checkpoint, or null")
        for value in ("", "a\0b", 1, True, ["a.ckpt"])
    ),
    *(("train", "lr_schedule", value, "constant, step or cosine") for value in ("linear", 0, None)),
    *(
        ("run", "minimum_download_rate", value, "a number of at least 0")
        for value in (-1, "fast", float("inf"), float("nan"), True, None)
    ),
    *(("train", "batch_norm_bias_lr_factor", value, "a number above 0") for value in (0, -1, "64", True, None)),
    *(("train", "weight_decay", value, "a number of at least 0") for value in (-0.1, "small", float("inf"), None)),
]

ACCEPTED: list[tuple[str, str, Any]] = [
    ("data", "urls", ["generated", "a/b.tar.gz", "file:///a"]),
    ("data", "md5", None),
    ("train", "initial_weights", None),
    ("train", "initial_weights", "a/b.ckpt"),
    ("data", "train_images", 50),
    ("data", "test_images", 10),
    ("model", "name", "alexnet"),
    ("model", "num_classes", 1000),
    ("model", "image_height", 1),
    ("model", "image_width", 1024),
    ("model", "dropout_rate", 0),
    ("train", "threads", 1),
    ("train", "seed", 2**32 - 1),
    ("train", "momentum", 0.999),
    ("train", "learning_rate", 1),
    ("train", "validation_images", 5000),
    ("train", "crop_padding", 0),
    ("train", "crop_padding_mode", "constant"),
    ("train", "flip", "alternating"),
    ("train", "cutout_size", 32),
    ("train", "weight_init", "TruncatedNormal"),
    ("train", "lr_schedule", "cosine"),
    ("train", "weight_decay", 0.0005),
    ("train", "batch_norm_bias_lr_factor", 64),
    ("model", "batch_norm", True),
    ("evaluate", "mirror", True),
    ("evaluate", "device_target", "Ascend"),
    ("run", "minimum_download_rate", 0),
    ("run", "log_steps", 1),
    ("run", "save_checkpoint_steps", 7),
    ("run", "keep_state", True),
]


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The values of the repository's params.yaml. The working directory is an empty one."""
    monkeypatch.chdir(tmp_path)
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return loaded


def write(values: object) -> None:
    params.PATH.write_text(yaml.safe_dump(values), encoding="utf-8")


def refused(values: object) -> "pytest.ExceptionInfo[InputError]":
    write(values)
    with pytest.raises(InputError) as caught:
        params.read()
    return caught


def test_the_repositorys_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = params.read()
    assert config.model_dump() == yaml.safe_load(params.PATH.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("section", "key", "value", "allowed"), REFUSED)
def test_a_wrong_value_is_refused(section: str, key: str, value: object, allowed: str, values: dict[str, Any]) -> None:
    values[section][key] = value
    caught = refused(values)
    one_line(caught, f"{section}.{key} ", f"expected {allowed}")
    assert str(caught.value).count("params.yaml") == 1
    shown = repr(value[0] if value in ([""], [1]) else value)
    assert shown in str(caught.value)


def test_a_wrong_item_of_a_list_is_named_by_its_number(values: dict[str, Any]) -> None:
    values["data"]["urls"] = ["generated", ""]
    one_line(refused(values), "item 2 of params.yaml: data.urls is '', expected a list of ")


def test_every_parameter_has_a_refused_value() -> None:
    assert {(section, key) for section, key, _, _ in REFUSED} == set(FIELDS)


@pytest.mark.parametrize(("section", "key", "value"), ACCEPTED)
def test_a_valid_value_is_read_unchanged(section: str, key: str, value: object, values: dict[str, Any]) -> None:
    values[section][key] = value
    write(values)
    assert getattr(getattr(params.read(), section), key) == value


def test_each_wrong_key_is_named(values: dict[str, Any]) -> None:
    values["train"]["batch_size"] = 0
    values["model"]["image_width"] = 0
    one_line(refused(values), "train.batch_size is 0", "model.image_width is 0")


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_a_missing_key_is_refused(section: str, key: str, values: dict[str, Any]) -> None:
    del values[section][key]
    one_line(refused(values), f"params.yaml: {section}.{key} is missing, expected ")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_section_is_refused(section: str, values: dict[str, Any]) -> None:
    keys = ", ".join(values.pop(section))
    one_line(refused(values), f"params.yaml: {section} is missing, expected the keys {keys}")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [None, 3, "text", ["urls"]])
def test_a_section_that_is_not_a_mapping_is_refused(section: str, value: object, values: dict[str, Any]) -> None:
    keys = ", ".join(values[section])
    values[section] = value
    one_line(refused(values), f"params.yaml: {section} is {value!r}, expected the keys {keys}")


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("train", "epochs", "epoch_size"),
        ("train", "learning_rat", "learning_rate"),
        ("model", "image_heigth", "image_height"),
        ("data", "url", "urls"),
        ("run", "log_step", "log_steps"),
    ],
)
def test_a_key_like_an_unknown_one_is_suggested(section: str, key: str, hint: str, values: dict[str, Any]) -> None:
    values[section][key] = 3
    one_line(refused(values), f"{section}.{key} is 3", f"there is no such key: did you mean {hint}?")


def test_an_unknown_key_unlike_any_other_has_no_hint(values: dict[str, Any]) -> None:
    values["train"]["zzz"] = 3
    caught = refused(values)
    one_line(caught, "train.zzz is 3", "no such key")
    assert "did you mean" not in str(caught.value)


def test_a_url_in_the_place_of_a_key_is_shown_without_its_password(values: dict[str, Any]) -> None:
    values["data"]["https://me:hush@host/a.tar.gz"] = None
    one_line(refused(values), "params.yaml: data.https://***@host/a.tar.gz is None", "no such key")


def test_a_section_like_an_unknown_one_is_suggested(values: dict[str, Any]) -> None:
    values["trian"] = {"seed": 1}
    one_line(refused(values), "params.yaml: trian is", "there is no such key: did you mean train?")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "text\n", "3\n"])
@pytest.mark.usefixtures("values")
def test_a_file_that_is_not_a_mapping_is_refused(text: str) -> None:
    params.PATH.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        params.read()
    one_line(caught, "params.yaml is", "expected the keys data, model, train, evaluate, run")


@pytest.mark.parametrize("data", [b"train: [1,\n", b"a: b: c\n", b"\ttrain: 1\n", b"\xff\xfe\x00"])
@pytest.mark.usefixtures("values")
def test_a_file_that_is_not_yaml_is_refused(data: bytes) -> None:
    params.PATH.write_bytes(data)
    with pytest.raises(InputError) as caught:
        params.read()
    one_line(caught, "params.yaml is not valid YAML")


def test_no_secret_is_shown(values: dict[str, Any]) -> None:
    values["data"]["urls"] = [{"a": "http://me:hush@example.org/a b?token=hush"}]
    one_line(refused(values), "http://***@example.org/a b?***")
    values["data"]["urls"] = "http://me:hush@example.org/a"
    one_line(refused(values), "http://***@example.org/a'")


@pytest.mark.parametrize(
    "text",
    [
        "data: {urls: ['http://me:hush@example.org/a?hush', }",
        "a: 1\na: http://me:hush@example.org/a b?hush",
        "a: http://me:hush@example.org/a b?hush: c",
        "a: !!int http://me:hush@example.org/a?hush",
    ],
)
@pytest.mark.usefixtures("values")
def test_a_file_that_is_not_yaml_is_refused_without_its_secrets(text: str) -> None:
    params.PATH.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        params.read()
    one_line(caught, "params.yaml is not valid YAML")
    assert "hush" not in str(caught.value)


def merged(levels: int) -> str:
    """A mapping that is merged nine times into the next, and so on."""
    names = ["a", *(f"b{level}" for level in range(1, levels))]
    lines = [f"{new}: &{new} {{<<: [{', '.join(9 * ['*' + old])}]}}\n" for old, new in itertools.pairwise(names)]
    return "a: &a {b: c}\n" + "".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "data: " + "[" * 5000 + "]" * 5000,
        "data: &a [{b: *a}]",
        "x: [&a 1, &b1 1, &b2 1, &b3 1, &b4 1, &b5 1, &b6 1, &b7 1]\n" + merged(8),
        merged(12),
        "".join(f"key{number}: 1\n" for number in range(200_000)),
        "".join(f"key{number}: 1\n" for number in range(8000)),
        "data: " + "9" * 5000,
        "data: 2001-99-99",
        "data: &a [*a]",
        "? [1, 2]\n: 3",
        "? {a: 1}\n: 3",
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{new}: &{new} [{', '.join(9 * ['*' + old])}]\n" for old, new in itertools.pairwise("abcdefghijklm"))
        + "data: *m\n",
    ],
    ids=[
        "deep",
        "deep and whole",
        "a list in itself, below",
        "a name given again",
        "merged",
        "long",
        "many keys",
        "long number",
        "no date",
        "a list in itself",
        "a list as a key",
        "a mapping as a key",
        "doubling",
    ],
)
@pytest.mark.usefixtures("values")
def test_a_hostile_file_is_refused_in_a_short_line_and_soon(text: str) -> None:
    params.PATH.write_text(text, encoding="utf-8")
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        params.read()
    assert time.process_time() - start < 10
    one_line(caught, "params.yaml")
    assert len(str(caught.value)) < 5_000


def test_an_alias_of_a_single_value_is_read(values: dict[str, Any]) -> None:
    write(values)
    text = params.PATH.read_text(encoding="utf-8")
    size = values["model"]["image_width"]
    text = text.replace(f"image_height: {size}", f"image_height: &size {size}")
    text = text.replace(f"image_width: {size}", "image_width: *size")
    params.PATH.write_text(text, encoding="utf-8")
    assert params.read().model.model_dump() == values["model"]
    assert "*size" in text


@pytest.mark.usefixtures("values")
def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        params.read()
    one_line(caught, "cannot read params.yaml", "No such file")


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("2.5e-3", 0.0025), ("1E2", 100.0), ("1.e-1", 0.1)])
def test_a_power_of_ten_is_a_number(text: str, value: float, values: dict[str, Any]) -> None:
    values["train"]["learning_rate"] = "PLACE"
    write(values)
    params.PATH.write_text(params.PATH.read_text(encoding="utf-8").replace("PLACE", text), encoding="utf-8")
    assert params.read().train.learning_rate == value


def test_the_file_is_read_as_dvc_reads_it(values: dict[str, Any]) -> None:
    values["train"]["epoch_size"] = "COUNT"
    write(values)
    text = params.PATH.read_text(encoding="utf-8")
    params.PATH.write_text(text.replace("COUNT", "010"), encoding="utf-8")
    assert params.read().train.epoch_size == 10
    params.PATH.write_text(text.replace("COUNT", "8").replace("mirror: false", "mirror: yes"), encoding="utf-8")
    with pytest.raises(InputError, match=r"evaluate\.mirror is 'yes', expected true or false"):
        params.read()


def test_a_key_that_is_not_a_text_is_refused(values: dict[str, Any]) -> None:
    one_line(refused(values | {1: 2}), "params.yaml: 1 is", "no such key")
    values["train"][3] = 4
    one_line(refused(values), "params.yaml: train.3 is", "no such key")


@pytest.mark.parametrize("section", SECTIONS)
def test_no_field_has_a_default_and_each_says_what_is_allowed(section: str) -> None:
    schema: Any = SECTIONS[section]
    assert params.Params.model_fields[section].is_required()
    for key, field in schema.model_fields.items():
        assert field.is_required(), key
        assert field.description, key


def test_named_values_are_defined_only_in_the_library() -> None:
    code = Path(params.__file__).read_text(encoding="utf-8")
    for choice in (DeviceTarget, ChosenAmpLevel, Flip, PaddingMode, WeightInit, Schedule):
        names = {name for name in get_args(choice) if name not in ("auto", "default", "random")}
        assert names
        assert not [name for name in names if f'"{name}"' in code]


def test_parameters_cannot_be_changed(values: dict[str, Any]) -> None:
    write(values)
    config = params.read()
    with pytest.raises(ValueError, match="frozen"):
        config.train.seed = 2


def flags(section: str, *arguments: str) -> argparse.Namespace:
    return zoo_flags.parse(argparse.ArgumentParser(allow_abbrev=False), section, arguments)


def test_without_flags_nothing_is_overridden() -> None:
    parsed = flags("train")
    assert parsed.any_given is False
    assert parsed.overrides == {}
    assert parsed.data_path is None


@pytest.mark.parametrize(
    "arguments", [("--data_path", "a"), ("--ckpt_path", "b"), ("--batch_size", "7"), ("--device_target", "CPU")]
)
def test_any_flag_counts_as_given(arguments: tuple[str, ...]) -> None:
    assert flags("evaluate", *arguments).any_given is True


@pytest.mark.parametrize("section", ["train", "evaluate"])
def test_the_zoos_flags_override_the_parameters(section: str, values: dict[str, Any]) -> None:
    write(values)
    arguments = "--device_target CPU --batch_size 7 --image_height 96 --image_width 99 --data_path d"
    if section == "train":
        arguments += " --epoch_size 3"
        values["train"]["epoch_size"] = 3
    parsed = flags(section, *arguments.split())
    assert parsed.data_path == Path("d")
    values["model"] |= {"image_height": 96, "image_width": 99}
    values[section] |= {"device_target": "CPU", "batch_size": 7}
    assert params.read(parsed.overrides).model_dump() == values


@pytest.mark.parametrize(
    ("flag", "text", "parts"),
    [
        ("--batch_size", "0", ("--batch_size is 0", COUNT)),
        ("--batch_size", "7.5", ("--batch_size is 7.5", COUNT)),
        ("--epoch_size", "many", ("--epoch_size is 'many'", COUNT)),
        ("--device_target", "TPU", ("--device_target is 'TPU'", DEVICE)),
        ("--image_height", "0", ("--image_height is 0", SIZE)),
        ("--image_width", "", ("--image_width is None", SIZE)),
        ("--batch_size", "[1", ("batch_size", COUNT)),
        ("--device_target", "a: b: c", ("device_target", DEVICE)),
    ],
)
def test_flags_are_checked_like_parameters(
    flag: str, text: str, parts: tuple[str, ...], values: dict[str, Any]
) -> None:
    write(values)
    with pytest.raises(InputError) as caught:
        params.read(flags("train", flag, text).overrides)
    one_line(caught, *parts)


@pytest.mark.parametrize("arguments", [("--learning_rate", "1"), ("--batch", "3"), ("extra",)])
def test_a_flag_unknown_to_the_zoo_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        flags("train", *arguments)
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_evaluation_has_no_epochs() -> None:
    with pytest.raises(SystemExit):
        flags("evaluate", "--epoch_size", "3")
