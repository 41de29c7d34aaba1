"""The gate of every exercise: the reference gets all, plausible mistakes get less and are told why.

Answers run where a student's do, in the sandbox, and are judged with the hidden tests.
"""

import copy
import math
import time

import numpy as np
import pytest
import torch
from course.master import read_master
from course.release import masters
from course.sandbox import Limits, Misbehaved, Sandbox
from course.scoring import Key
from course.trial import faults

MASTERS = {path.stem: read_master(path) for path in masters()}
QUESTIONS = [(stem, q.name) for stem, master in MASTERS.items() for q in master.questions]

# What a careless or a sly function returns. No judge may be pleased, or take long over it.
ODD = {
    "nothing": None,
    "a truth": True,
    "a word": "Right.",
    "an empty list": [],
    "lists of lists": [[], [[1.0]]],
    "not a number": math.nan,
    "infinity": math.inf,
    "a huge integer": 10**18,
    "a vector of nothing": np.zeros(0),
    "many dimensions": np.zeros((1, 1, 1, 1)),
    "not numbers": np.full(6, np.nan),
    "huge numbers": np.full(6, 1e308),
    "too many numbers": np.ones(100_000),
    "truths": np.ones(6, dtype=bool),
}


@pytest.fixture(scope="module")
def boxes(walls):
    """One sandbox and one key for each chapter, started when first asked for."""
    made = {}

    def box(stem):
        if stem not in made:
            key = Key(MASTERS[stem], seed=2026)
            sandbox = Sandbox(Limits(), walls)
            sandbox.start(key.setup)
            made[stem] = key, sandbox
        return made[stem]

    yield box
    for _, sandbox in made.values():
        sandbox.kill()


@pytest.mark.parametrize(("stem", "name"), QUESTIONS)
def test_reference_scores_all_and_wrong_answers_less(stem, name, boxes):
    question = next(q for q in MASTERS[stem].questions if q.name == name)
    key, sandbox = boxes(stem)
    assert faults(key, lambda: sandbox, question) == []


def shapes_like(value):
    """Values of the right kind and shape that are no answer."""
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim:
        real = torch.as_tensor(value).to(torch.float64)
        yield from (torch.full_like(real, number) for number in (math.nan, math.inf, 1e308))
        yield real[..., None]
    elif isinstance(value, tuple | list):
        kind = type(value)
        for number in (math.nan, None, "x"):
            yield kind([number] * len(value))
        yield kind(value[:-1])
    elif isinstance(value, int | float):
        yield from (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(("stem", "name"), QUESTIONS)
def test_judge_is_not_pleased_by_odd_values(stem, name, boxes):
    key, _ = boxes(stem)
    question = next(q for q in MASTERS[stem].questions if q.name == name)
    names = dict(key.names[name])
    exec(question.solution, names)
    cases = [case for _, case in key.cases(question)]
    for case, more in ((cases[0], ODD.values()), (cases[-1], ())):
        right = names[name](*copy.deepcopy(case))
        for value in [*more, *shapes_like(right)]:
            if isinstance(right, bool) and value is right:
                continue
            start = time.process_time()
            share, message = key.verdict(question, value, case)
            assert share < 0.5, f"{value!r}: {message}"
            assert time.process_time() - start < 5, f"{value!r} takes long to judge"


@pytest.mark.parametrize("stem", MASTERS)
def test_hidden_cases_follow_the_seed(stem, boxes):
    one, _ = boxes(stem)
    again, two = Key(MASTERS[stem], one.seed), Key(MASTERS[stem], one.seed + 1)
    for question in MASTERS[stem].questions:

        def numbers(key, question=question):
            cases = [case for _, case in key.cases(question)]
            return str([[getattr(part, "tolist", lambda p=part: p)() for part in c] for c in cases])

        assert numbers(one) == numbers(again) != numbers(two)


def test_each_chapter_has_four_exercises():
    assert MASTERS
    for stem, master in MASTERS.items():
        assert len(master.questions) >= 4, stem


def test_sandbox_that_was_ended_says_so(boxes, walls):
    with Sandbox(Limits(), walls) as sandbox:
        sandbox.start([])
        sandbox.kill()
        with pytest.raises(Misbehaved, match="ended"):
            sandbox.ask("f", [])
