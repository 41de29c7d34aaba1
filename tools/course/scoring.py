"""Judge the values that a submission's functions return. All of this runs on the trusted side.

For a question there are visible cases, a quarter of its mark, and hidden ones, three quarters,
drawn with the assignment's own seed. The student's function is called on each inside the sandbox;
the judge of the master, which is never inside, looks at the value.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from course.master import Master, Question
from course.matching import Answer, plain_python
from course.release import checks_source
from course.sandbox import Limits, Misbehaved, Sandbox
from course.wire import WireError

VISIBLE = 0.25
LONGEST = 500  # characters of a judge's message

Case = tuple[Any, ...]
Verdict = tuple[float, str]


@dataclass(frozen=True)
class Mark:
    """What one question got: a share of its points, and why."""

    question: str
    points: float
    share: float
    message: str

    @property
    def got(self) -> float:
        return round(self.share * self.points, 2)


class Key:
    """A master's checks and hidden tests, ready to judge; made on the trusted side only.

    The names of the setup and of each question live apart, so that questions cannot disturb one
    another.
    """

    def __init__(
        self, master: Master, seed: int, checks: str | None = None, files: tuple[Path, ...] = ()
    ) -> None:
        self.master = master
        self.seed = seed
        self.files = files  # that must not be seen from inside
        about = json.dumps([seed, checks, asdict(master)], default=sorted)
        self.digest = hashlib.sha256(about.encode()).hexdigest()
        self.lock = threading.Lock()  # judges may use the one random generator of torch
        setup: dict[str, Any] = {"__name__": "course_key"}
        self.setup = [plain_python(source) for source in master.setup]
        for source in [*self.setup, checks or checks_source()]:
            exec(compile(source, f"<setup of chapter {master.chapter}>", "exec"), setup)
        self.names: dict[str, dict[str, Any]] = {}
        self._cases: dict[str, list[tuple[float, Case]]] = {}
        for question in master.questions:
            names = dict(setup)
            for source in [*question.visible, *question.hidden]:
                exec(compile(source, f"<tests of {question.name}>", "exec"), names)
            self.names[question.name] = names

    def cases(self, question: Question) -> list[tuple[float, Case]]:
        """The cases with their weights, which add up to one; made once."""
        with self.lock:
            if question.name not in self._cases:
                self._cases[question.name] = self._make_cases(question)
            return self._cases[question.name]

    def _make_cases(self, question: Question) -> list[tuple[float, Case]]:
        names = self.names[question.name]
        visible = names[f"cases_{question.name}"]()
        hidden = names[f"hidden_{question.name}"](self.seed)
        return [
            *((VISIBLE / len(visible), case) for case in visible),
            *(((1 - VISIBLE) / len(hidden), case) for case in hidden),
        ]

    def verdict(self, question: Question, value: Any, case: Case) -> Verdict:
        """The judge's opinion of a value. A value that breaks the judge is worth nothing."""
        names = self.names[question.name]
        try:
            with self.lock:
                judge = names[f"judge_{question.name}"]
                share, message = names["judged"](judge, value, copy.deepcopy(case))
        except Exception as error:  # whatever was returned, the batch goes on
            return 0.0, f"what you return cannot be judged ({type(error).__name__})"
        if not 0 <= share <= 1:  # not a number
            return 0.0, "what you return cannot be judged"
        return share, message[:LONGEST]

    def mark(self, question: Question, call: Callable[[Case], Any], note: str = "") -> Mark:
        """Judge all cases of a question; `call` returns the student's value at one of them."""
        share, right, messages = 0.0, 0, [_sentence(note)] if note else []
        cases = self.cases(question)
        for weight, case in cases:
            try:
                got, message = self.verdict(question, call(case), case)
            except Misbehaved as error:
                got, message = 0.0, str(error)
            share += weight * got
            right += got == 1
            message = _sentence(message)
            if got < 1 and message not in messages:
                messages.append(message)
        if share > 1 - 1e-9:
            messages = [*messages, "Right."]
        elif right:
            messages = [f"Right for {right} of {len(cases)} inputs.", *messages]
        return Mark(question.name, question.points, min(share, 1.0), " ".join(messages[:3]))


def _sentence(text: str) -> str:
    """With a capital and a full stop, so that several can stand in a row."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


@contextmanager
def _kept(box: list[Sandbox]) -> Iterator[None]:
    try:
        yield
    finally:
        for sandbox in box:
            sandbox.kill()


def mark_all(key: Key, answers: dict[str, Answer], limits: Limits, walls: str) -> list[Mark]:
    """The marks of one submission. A sandbox that a question has broken is replaced."""
    marks = []
    box: list[Sandbox] = []
    with _kept(box):
        for question in key.master.questions:
            answer = answers[question.name]
            if not answer.cells:
                marks.append(Mark(question.name, question.points, 0.0, _sentence(answer.note)))
                continue
            if not (box and box[-1].alive):
                box.append(Sandbox(limits, walls))
                box[-1].start(key.setup)
            sandbox = box[-1]
            key.cases(question)  # before the student's clock runs
            try:
                sandbox.ask(question.name, answer.cells, min(question.seconds, limits.question))
            except Misbehaved as error:
                text = " ".join(_sentence(part) for part in (answer.note, str(error)) if part)
                marks.append(Mark(question.name, question.points, 0.0, text))
                continue
            marks.append(key.mark(question, _caller(sandbox), answer.note))
            if sandbox.alive:
                sandbox.close_question()
    return marks


def _caller(sandbox: Sandbox) -> Callable[[Case], Any]:
    broken: list[str] = []

    def call(case: Case) -> Any:
        if broken:
            raise Misbehaved(broken[0])
        try:
            return sandbox.call(case)
        except WireError as error:  # our own input: a fault of the master
            raise RuntimeError(f"a case of the master cannot be sent: {error}") from error
        except Misbehaved as error:
            if not sandbox.alive:
                broken.append(str(error))
            raise

    return call
