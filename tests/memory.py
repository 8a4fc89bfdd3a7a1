"""The memory of this process."""

from pathlib import Path


def megabytes(field: str) -> float:
    """Return the memory of this process: VmRSS is what it takes, VmHWM the most that it took since `forget_peak`.

    Not `resource.getrusage`: its maximum is at least that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def forget_peak() -> None:
    """Let VmHWM start again from what this process takes now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
