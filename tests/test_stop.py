import os
import signal

import pytest

from alexnet.runtime.errors import Interrupted
from alexnet.runtime.stop import StopRequest


def test_what_mindspore_reports_of_an_interruption_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    request = StopRequest()

    def compile_until_interrupted() -> None:
        os.write(2, b"before\n")
        request.signal = signal.SIGTERM
        try:
            request._raise()
        finally:
            os.write(2, b"[ERROR] ANALYZER: Exception happened\n")

    with pytest.raises(Interrupted), request.raising():
        compile_until_interrupted()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"
