"""Is a master fit to be assigned? Its own answers are marked as a student's would be.

The reference must get everything, and each wrong answer at most its share, with the words that it
must be told: for every seed that hidden cases may be drawn with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack

from course.master import Master, Question
from course.matching import plain_python
from course.sandbox import Limits, Misbehaved, Sandbox
from course.scoring import Key, Mark

SECONDS = 60.0  # for an answer; a student has those of the question
LIMITS = Limits(cpu=24 * 3600)  # the answers of all seeds share a process
ROUNDING = 1e-9  # a share is a sum of a few floats
FEWEST = 3  # wrong answers, or a judge that is easily pleased goes unseen

Ready = Callable[[], Sandbox]  # a sandbox that has run the setup, and is alive


def mark_of(key: Key, ready: Ready, question: Question, source: str) -> Mark:
    """The mark of one answer."""
    sandbox = ready()
    try:
        sandbox.ask(question.name, [plain_python(source)], SECONDS)
        mark = key.mark(question, sandbox.call)
    except Misbehaved as error:
        return Mark(question.name, question.points, 0.0, str(error))
    if sandbox.alive:
        sandbox.close_question()
    return mark


def faults(key: Key, ready: Ready, question: Question) -> list[str]:
    """What is wrong with a question, each in a sentence that names the answer."""
    found = []
    reference = mark_of(key, ready, question, question.solution)
    if reference.share < 1 - ROUNDING:
        found.append(f"the reference gets {reference.share:.0%}: {reference.message}")
    if len(question.wrong) < FEWEST:
        found.append(f"{len(question.wrong)} wrong answers, and {FEWEST} are asked")
    for wrong in question.wrong:
        if wrong.most >= 1:
            found.append(f"`{wrong.name}` may get everything: is it wrong?")
        mark = mark_of(key, ready, question, wrong.source)
        if mark.share > wrong.most + ROUNDING:
            found.append(f"`{wrong.name}` gets {mark.share:.0%}, {wrong.most:.0%} is the most")
        if wrong.says.lower() not in mark.message.lower():
            found.append(f'`{wrong.name}` is not told "{wrong.says}" but: {mark.message}')
    return found


def trial(master: Master, seeds: Iterable[int], walls: str) -> list[str]:
    """The faults of all questions of a master, for hidden cases of each seed."""
    found = []
    with ExitStack() as stack:
        started: list[Sandbox] = []

        def ready() -> Sandbox:
            if not (started and started[-1].alive):
                started.append(stack.enter_context(Sandbox(LIMITS, walls)))
                started[-1].start(key.setup)
            return started[-1]

        for seed in seeds:
            key = Key(master, seed)
            for question in master.questions:
                where = f"{question.name}, seed {seed}"
                found += [f"{where}: {fault}" for fault in faults(key, ready, question)]
    return found
