"""Make an assignment: one folder to hand out, one to keep.

    handout/NN_name.ipynb, README.md      for students
    private/NN_name.ipynb, checks.py, key.json        for grading: solutions, hidden tests, a seed

The seed is drawn once for each assignment, so that hidden cases of one year say nothing about those
of the next, and kept, so that grading again gives the same marks.
"""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from check_notebooks import canonical

from course.master import MasterError, read_master
from course.release import CHECKS, checks_source, masters, student_copy
from course.scoring import Key

README = """\
# {title}

Open `{notebook}` in JupyterLab or in Colab, and write your answers into the cells that begin with
`# Answer:`. Keep that line: your answer is found by it. You may add cells of your own. The cell
below each answer checks it, as often as you like, and says what is wrong.

Your functions are called on other inputs too, so an answer that is made for the visible ones gets
a quarter of the points at most. They run without network and without files, and have {seconds:g}
seconds of computing for a question. Hand in the notebook, nothing else.
"""


def master_of(chapter: int) -> Path:
    """The master of a chapter."""
    found = [path for path in masters() if int(path.name[:2]) == chapter]
    if not found:
        have = ", ".join(str(int(path.name[:2])) for path in masters()) or "none"
        raise FileNotFoundError(
            f"Chapter {chapter} has no exercises to assign (chapters with some: {have}). "
            "Name another: make assignment CHAPTER=3."
        )
    return found[0]


def make_assignment(source: Path, out: Path) -> tuple[Path, Path]:
    """Write ``handout`` and ``private`` of a master into a folder; returns both.

    Raises
    ------
    FileExistsError
        If another version was assigned there: grading needs the one that students have.
    """
    master = read_master(source)
    copy = canonical(student_copy(master))
    handout, private = out / "handout", out / "private"
    key = private / "key.json"
    kept = {private / source.name: source, private / CHECKS.name: CHECKS}
    if key.exists() and any(
        not path.exists() or path.read_bytes() != now.read_bytes() for path, now in kept.items()
    ):
        raise FileExistsError(
            f"{out} holds an assignment made from another version of {source.name}. Submissions "
            "to it need that version's tests, so it is left alone. Remove it if nobody has it, "
            "or write elsewhere with OUT=folder."
        )
    for folder in (handout, private):
        folder.mkdir(parents=True, exist_ok=True)
    private.chmod(0o700)
    (handout / source.name).write_text(copy, encoding="utf-8")
    seconds = max(question.seconds for question in master.questions)
    readme = README.format(title=master.title, notebook=source.name, seconds=seconds)
    (handout / "README.md").write_text(readme, encoding="utf-8")
    if not key.exists():
        for path, now in kept.items():
            shutil.copyfile(now, path)
        key.write_text(json.dumps({"seed": secrets.randbelow(2**31)}) + "\n", encoding="utf-8")
    return handout, private


def read_key(private: Path) -> Key:
    """What grades the submissions to an assignment.

    Raises
    ------
    FileNotFoundError
        If this is not its private folder, or a part of it is gone.
    MasterError
        If ``key.json`` cannot be read.
    """
    kept = [path for path in private.glob("[0-9][0-9]_*.ipynb") if path.is_file()]
    key, checks = private / "key.json", private / CHECKS.name
    if len(kept) != 1 or not checks.exists():
        raise FileNotFoundError(
            f"{private} is not the private folder of an assignment (a master, {checks.name} and "
            "key.json). Make one with `make assignment CHAPTER=3`, or name it with KEY=folder."
        )
    try:
        seed = int(json.loads(key.read_text(encoding="utf-8"))["seed"])
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{key} is gone, and with it the seed of the hidden inputs. To grade with others of "
            'the same kind, write {"seed": 1} into it; marks given before may change a little.'
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise MasterError(f'{key} should read {{"seed": NUMBER}}: {error!r}') from None
    return Key(read_master(kept[0]), seed, checks_source(checks), (private,))
