"""Runs the students' tests in the unpacked kit, in a process of their own, as on a student's machine."""
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from utils.lab import LabError

TESTS = "tests/student"
LIMIT = 900  # seconds


def run_student_tests(kit: Path) -> str:
    """pytest's counts of the students' tests in the unpacked kit. Raises LabError unless all of them pass.

    The process knows nothing of this repository: its folder is the kit, and there is no PYTHONPATH.
    """
    if importlib.util.find_spec("pytest") is None:
        raise LabError(f"expected pytest for the kit's tests, found none in {sys.executable}: `make test` installs it, "
                       "or pass --no-trial")
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("PYTHONPATH", "PYTHONSAFEPATH", "PYTEST_ADDOPTS")}
    with tempfile.TemporaryDirectory(prefix="lab-kit-tests-") as temporary:  # for what the tests leave
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": temporary}
        try:
            done = subprocess.run([sys.executable, "-m", "pytest", TESTS, "-p", "no:cacheprovider"], cwd=kit,
                                  env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
                                  timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            raise LabError(f"expected {TESTS} to pass in the kit, found it still running after {LIMIT // 60} minutes: "
                           "run it in the repository") from None
    counts = [line for line in done.stdout.splitlines() if re.search(r"\d+ (?:passed|skipped|failed|errors?)\b", line)]
    last = counts[-1].strip("= ") if counts else "no test"
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise LabError(f"expected {TESTS} to pass in the kit, found {last!r} (status {done.returncode}, its "
                       "output is above): correct the tests, or the kit")
    return last
