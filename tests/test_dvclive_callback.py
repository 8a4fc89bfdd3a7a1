"""What is logged with DVCLive during a training."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from dvclive import Live
from mindspore import dataset as ds
from mindspore import nn
from mindspore.train import Accuracy, Model, RunContext
from mindspore.train.callback import _InternalCallbackParam

from alexnet.training import dvclive_callback
from alexnet.training.dvclive_callback import DVCLiveCallback
from alexnet.training.history import History

pytestmark = pytest.mark.usefixtures("outside_the_repository")


def live(folder: Path) -> Live:
    return Live(str(folder), dvcyaml=None, report=None, save_dvc_exp=False)


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    with (folder / "plots" / "metrics" / f"{name}.tsv").open(encoding="utf-8") as file:
        return [(int(row["step"]), float(row[name.split("/")[-1]])) for row in csv.DictReader(file, delimiter="\t")]


HISTORY = History(
    loss=np.array([4, 3, 2, 1, 0.5, 0.25], np.float32),
    accuracy=np.array([0, 0.25, 0.5, 0.75, 1, 1], np.float32),
    learning_rate=np.full(6, 0.5, np.float32),
    seconds=np.ones(6, np.float32),
    save_seconds=np.zeros(6, np.float32),
    validation_loss=np.array([2, 1], np.float32),
    validation_accuracy=np.array([0.5, 0.75], np.float32),
)
"""The history of two epochs of three steps."""


def play(callback: DVCLiveCallback, first: int, last: int) -> None:
    """Call a callback like a training that resumes after `first` steps and is killed after `last` steps."""
    context = _InternalCallbackParam(history=HISTORY, batch_num=3, cur_step_num=first)
    run = RunContext(context)
    callback.on_train_begin(run)
    for step in range(first, last):
        context.cur_epoch_num, context.cur_step_num = step // 3 + 1, step + 1
        callback.on_train_step_end(run)
        if step % 3 == 2:
            callback.on_train_epoch_end(run)
    if last == 6:
        callback.on_train_end(run)


def test_a_point_is_the_mean_since_the_last_one(tmp_path: Path) -> None:
    play(DVCLiveCallback(live(tmp_path), log_steps=4), 0, 6)
    assert curve(tmp_path, "train/loss") == [(4, 2.5), (6, 0.375)]
    assert curve(tmp_path, "train/accuracy") == [(4, 0.375), (6, 1)]
    assert curve(tmp_path, "learning_rate") == [(4, 0.5), (6, 0.5)]
    assert curve(tmp_path, "eval/accuracy") == [(3, 0.5), (6, 0.75)]
    assert curve(tmp_path, "eval/loss") == [(3, 2), (6, 1)]
    summary = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert summary["step"] == 6
    assert summary["train"]["loss"] == 0.375


def test_a_model_that_sinks_data_reports_many_steps_at_once(tmp_path: Path) -> None:
    callback = DVCLiveCallback(live(tmp_path), log_steps=4)
    for step in (3, 6, 9, 12):
        callback.on_train_step_end(RunContext(_InternalCallbackParam(cur_step_num=step, net_outputs=np.float32(step))))
    assert curve(tmp_path, "train/loss") == [(6, 4.5), (9, 9), (12, 12)]


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_resumed_training_has_each_point_once(cut: int, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    play(DVCLiveCallback(live(whole), log_steps=2), 0, 6)
    play(DVCLiveCallback(live(resumed), log_steps=2), 0, cut)
    play(DVCLiveCallback(live(resumed), log_steps=2), cut, 6)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.*"))
    assert len(files) == 6
    for file in files:
        assert (resumed / file).read_text() == (whole / file).read_text()


@pytest.mark.parametrize(("studio", "posts"), [({}, 0), ({"token": "t"}, 8)])
def test_studio_gets_each_step_if_it_is_set_up(
    studio: dict[str, str], posts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvclive_callback, "get_dvc_studio_config", lambda _: studio)
    logger, calls = live(tmp_path), []
    monkeypatch.setattr(logger, "post_data_to_studio", lambda: calls.append(logger.step))
    callback = DVCLiveCallback(logger)
    play(callback, 0, 6)
    assert len(calls) == posts + 1, "DVCLive itself does at the end"


def test_with_mindspores_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {"x": rng.random((8, 4), np.float32), "y": rng.integers(0, 3, 8).astype(np.int32)}
    batches = ds.NumpySlicesDataset(data, shuffle=False).batch(4)
    network = nn.Dense(4, 3)
    optimizer = nn.Momentum(network.trainable_params(), 0.25, 0.9)
    model = Model(network, nn.CrossEntropyLoss(), optimizer, {"accuracy": Accuracy()})
    callback = DVCLiveCallback(dir=str(tmp_path), dvcyaml=None, save_dvc_exp=False)
    model.fit(2, batches, batches, callbacks=[callback], dataset_sink_mode=False)
    losses = curve(tmp_path, "train/loss")
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert losses[0][1] == pytest.approx(np.log(3), abs=1)
    assert curve(tmp_path, "learning_rate") == [(step, 0.25) for step in range(1, 5)]
    assert [step for step, _ in curve(tmp_path, "eval/accuracy")] == [2, 4]
    assert [step for step, _ in curve(tmp_path, "eval/loss")] == [2, 4]
