"""Judges a submission's files by handin's rules, in a process of its own that may be lost.

Nothing of a submission runs here. But its notebooks and sources are parsed, and a file can be made on which Python's
own parser takes all memory, all time, or the process with it. Then that file is not judged, and grading goes on.
"""
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

from grading.trial.sandbox import confine
from handin.findings import Finding
from utils.lab import ROOT

SECONDS = 60.0        # for one file
MEMORY = 2 << 30      # bytes of address space
ANSWER = 16 << 20     # bytes read of an answer
MOST_FINDINGS = 100   # kept of one file


class Judge:
    """A process that judges one file after another. It starts with the first, and again after a file that ended it."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, whatever it does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            process.wait()

    def judge(self, subject: str, path: Path) -> tuple[list[Finding], dict | None]:
        """The findings on the file of a part ("notebook 1", "weights 2", "report"), and of weights the fingerprint."""
        try:
            answer = self._ask({"subject": subject, "path": str(path)})
            return [Finding(*map(str, entry)) for entry in answer["findings"][:MOST_FINDINGS]], answer["print"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            self.close()
            return [Finding("WARN", subject, f"expected a file that can be judged, found {error} over {path.name}: "
                                             "look at it by hand")], None

    def _ask(self, question: dict) -> dict:
        """The process's answer. Raises OSError, TimeoutError among them, or ValueError where there is none."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "grading.judge", str(os.getpid())], cwd=ROOT, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + self.seconds
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        answer = bytearray()
        while not answer.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no end after {self.seconds:g} s")
            part = self._process.stdout.read1(1 << 16)
            if not part:
                raise ValueError(f"the process that judges gone with status {self._process.wait()}")
            answer += part
            if len(answer) > ANSWER:
                raise ValueError("more findings than can be told")
        return json.loads(answer)


def judge_file(subject: str, path: Path) -> list[Finding]:
    """The findings on one file, by handin's rules for what it is."""
    from handin.documents import check_report
    from handin.findings import judge
    from handin.notebooks import check_notebook
    from handin.rules import judge_rules
    from handin.weights import check_weights_file

    kind = subject.split()[0]
    findings = {"notebook": lambda: [judge(subject, check_notebook, path), *judge_rules(path, subject)],
                "network": lambda: judge_rules(path, subject),
                "weights": lambda: [judge(subject, check_weights_file, path)],
                "report": lambda: [judge(subject, check_report, path)]}[kind]()
    return list(dict.fromkeys(findings))  # a notebook that cannot be read is told by both of its checks


def main() -> None:
    """The process: for each question, a line on stdin, it answers with a line on stdout, until stdin ends."""
    from grading.intake.fingerprint import fingerprint

    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints is no answer
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        confine.die_with_parent(int(sys.argv[1]))
    for line in sys.stdin.buffer:
        question = json.loads(line)
        subject, path = question["subject"], Path(question["path"])
        found = [[finding.level, finding.subject, finding.text] for finding in judge_file(subject, path)]
        mark = fingerprint(path) if subject.startswith("weights") else None
        answers.write(json.dumps({"findings": found, "print": mark}).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
