"""The gate of every exercise: the reference gets all, plausible mistakes get less and are told why.

Answers run where a student's do, in the sandbox, and are judged with the hidden tests.
"""

import pytest
from course.master import read_master
from course.matching import plain_python
from course.release import masters
from course.sandbox import Limits, Misbehaved, Sandbox
from course.scoring import Key

MASTERS = {path.stem: read_master(path) for path in masters()}
QUESTIONS = [(stem, q.name) for stem, master in MASTERS.items() for q in master.questions]


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


def marked(boxes, stem, question, source):
    key, sandbox = boxes(stem)
    sandbox.ask(question.name, [plain_python(source)], 60)
    mark = key.mark(question, sandbox.call)
    sandbox.close_question()
    return mark


@pytest.mark.parametrize(("stem", "name"), QUESTIONS)
def test_reference_scores_all_and_wrong_answers_less(stem, name, boxes):
    question = next(q for q in MASTERS[stem].questions if q.name == name)
    reference = marked(boxes, stem, question, question.solution)
    assert reference.share == pytest.approx(1), reference.message
    assert len(question.wrong) >= 3
    for wrong in question.wrong:
        mark = marked(boxes, stem, question, wrong.source)
        assert mark.share <= wrong.most < 1, f"{wrong.name}: {mark}"
        assert wrong.says.lower() in mark.message.lower(), f"{wrong.name}: {mark}"


@pytest.mark.parametrize(("stem", "name"), QUESTIONS)
def test_empty_answer_is_told_so(stem, name, boxes):
    question = next(q for q in MASTERS[stem].questions if q.name == name)
    mark = marked(boxes, stem, question, question.stub)
    assert mark.share == 0
    assert "returns nothing yet" in mark.message


@pytest.mark.parametrize("stem", MASTERS)
def test_hidden_cases_follow_the_seed(stem):
    one, two, again = (Key(MASTERS[stem], seed) for seed in (1, 2, 1))
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
