"""How workers end, and how their launcher reports it: with the real `msrun`, and workers that do not train."""

import json
import time
from pathlib import Path

import pytest

from alexnet.runtime.errors import InputError, Stopped, WorkerError
from alexnet.training import launcher
from alexnet.training.launcher import OUTCOMES, launch, outcome_reported
from tests.conftest import one_line

WORKER = """
import os, signal, sys
if os.environ["MS_ROLE"] == "MS_SCHED":
    sys.exit()
from alexnet.runtime.errors import InputError, Stopped, exit_on_failure
from alexnet.training.launcher import outcome_reported
with exit_on_failure():
    try:
        with outcome_reported():
            if os.environ["RANK_ID"] in "{ranks}":
                {code}
    except Stopped:
        sys.exit()
"""


def launch_two(folder: Path, code: str, ranks: str = "1") -> None:
    """Launch two workers. Those with these ranks run the code, and the others do nothing."""
    launch(["-c", WORKER.format(ranks=ranks, code=code)], 2, folder, lambda: False)


def test_log_lines_are_not_mistaken_for_failures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launch_two(tmp_path, r"print('ERROR: a word\nstopped a moment\nin the log')", "01")
    assert "in the log" in capfd.readouterr().out
    for rank in (0, 1):
        written = json.loads((tmp_path / f"worker_{rank}.outcome.json").read_text(encoding="utf-8"))
        assert written == {"outcome": "finished"}


def test_a_crash_after_the_work_is_done_does_not_matter(tmp_path: Path) -> None:
    launch_two(tmp_path, "import atexit; atexit.register(os._exit, 9)")


def test_a_wrong_value_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        launch_two(tmp_path, "raise InputError('batch_size is 3')")
    one_line(caught, "batch_size is 3")


def test_a_full_disk_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"^No space left on device: a/b$"):
        launch_two(tmp_path, "raise OSError(28, 'No space left on device', 'a/b')")


def test_a_request_to_stop_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=r"^stopped after epoch 2$"):
        launch_two(tmp_path, "raise Stopped('stopped after epoch 2')", "01")


def test_a_request_to_stop_may_come_when_a_worker_has_ended(tmp_path: Path) -> None:
    outcome, since = tmp_path / "worker_1.outcome.json", time.monotonic()

    def stop() -> bool:
        nonlocal since
        if not outcome.exists():
            since = time.monotonic()
        return time.monotonic() > since + 3  # msrun looks for workers that have ended once a second

    code = "import time; signal.signal(signal.SIGTERM, lambda *_: None); time.sleep(6)"
    launch(["-c", WORKER.format(ranks="0", code=code)], 2, tmp_path, stop)
    assert outcome.exists()


def test_workers_may_take_long_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "END_SECONDS", 1)
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 5)
    code = (
        "import time; wait = {signal.SIGTERM}; signal.pthread_sigmask(signal.SIG_BLOCK, wait); print('ready'); "
        "sys.stdout.flush(); signal.sigwait(wait); time.sleep(8); raise Stopped('stopped at last')"
    )
    logs = [tmp_path / f"worker_{rank}.log" for rank in (0, 1)]

    def stop() -> bool:
        return all("ready" in log.read_text(encoding="utf-8") for log in logs)

    with pytest.raises(Stopped, match=r"^stopped at last$"):
        launch(["-c", WORKER.format(ranks="01", code=code)], 2, tmp_path, stop)


def test_a_worker_without_an_outcome_is_named(tmp_path: Path) -> None:
    (tmp_path / "worker_1.outcome.json").write_text('{"outcome": "finished"}', encoding="utf-8")  # from another run
    with pytest.raises(WorkerError, match=rf"^worker 1 died, see {tmp_path}/worker_1.log; "):
        launch_two(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")


def test_nothing_is_written_outside_of_a_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OUTCOMES, raising=False)
    monkeypatch.setenv("RANK_ID", "0")  # as where msrun was started by hand
    monkeypatch.chdir(tmp_path)
    with outcome_reported():
        pass
    assert list(tmp_path.iterdir()) == []
