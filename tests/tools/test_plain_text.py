"""A chapter's text as plain Markdown: what becomes of each kind of markup, and what is refused."""

import pytest
from site_ext.plain_text import NotPlain, Place, leftovers, plain

SITE = "https://o.github.io/b"
PLACES = {
    "thm-a": Place("Theorem 1.1", f"{SITE}/one.html#thm-a"),
    "ex-a": Place("Exercise 1.2", f"{SITE}/one.html#ex-a"),
    "fig-a": Place("Fig. 1.3", f"{SITE}/one.html#fig-a"),
}


class Guide:
    """A book of one page whose headings count 1, 2, ..."""

    count = 0

    def label(self, label):
        return PLACES[label]

    def page(self, path):
        path, _, anchor = path.partition("#")
        name = path.rpartition("/")[2].rpartition(".")[0] or "one"
        return Place(name, f"{SITE}/{name}.html" + f"#{anchor}" * bool(anchor))

    def citation(self, key):
        return Place(key.title(), f"{SITE}/bib.html#{key}")

    def heading(self):
        self.count += 1
        return f"1.{self.count}."


def test_a_theorem_is_a_quote_with_its_number_and_displays_on_one_line():
    text = (
        "Before.\n\n:::{prf:theorem} A *title* with $x<1$\n:label: thm-a\n\nLet\n\n"
        "$$\na\n< b \\tag{1}\n$$\n\nbe.\n:::\n\nAfter."
    )
    assert plain(text, Guide()) == (
        f"Before.\n\n> **[Theorem 1.1]({SITE}/one.html#thm-a)** (A *title* with $x\\lt 1$)\n>\n"
        "> Let\n>\n> $$ a \\lt b \\tag{1} $$\n>\n> be.\n\nAfter."
    )


@pytest.mark.parametrize(
    ("opening", "summary"),
    [
        ("{prf:proof}", "Proof"),
        ("{prf:proof} of the *second* part", "Proof (of the *second* part)"),
        ("{hint}", "Hint"),
        ("{solution} ex-a", "Solution to Exercise 1.2"),
        ("{admonition} Aside", "Aside"),
    ],
)
def test_dropdowns_unfold(opening, summary):
    text = f":::{opening}\n:class: dropdown\n\n$$\na\n$$\n:::"
    assert plain(text, Guide()) == (
        f"<details>\n<summary><b>{summary}</b></summary>\n\n$$\na\n$$\n\n</details>"
    )


def test_an_open_proof_and_a_nested_box():
    text = "::::{prf:proof}\nSee:\n\n:::{exercise}\n:label: ex-a\nDo.\n:::\n::::"
    assert plain(text, Guide()) == (
        f"> **Proof**\n>\n> See:\n>\n> > **[Exercise 1.2]({SITE}/one.html#ex-a)**\n> >\n> > Do."
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{prf:ref}`thm-a`", f"[Theorem 1.1]({SITE}/one.html#thm-a)"),
        ("{ref}`this <thm-a>`", f"[this]({SITE}/one.html#thm-a)"),
        ("{numref}`picture %s <fig-a>`", f"[picture 1.3]({SITE}/one.html#fig-a)"),
        ("{doc}`../book/ledger`", f"[ledger]({SITE}/ledger.html)"),
        ("{cite}`ann, bob`", f"[Ann]({SITE}/bib.html#ann), [Bob]({SITE}/bib.html#bob)"),
        ("[$x$](../book/errata.md#e)", f"[$x$]({SITE}/errata.html#e)"),
        ('<a href="#ch1-a">*here*</a>', f"[*here*]({SITE}/one.html#ch1-a)"),
        ('<a id="ch1-a"></a>\n## A $y$', "## 1.1. A $y$"),
        ("(target)=\nText", "Text"),
        ("[out](https://example.org/a.md)", "[out](https://example.org/a.md)"),
    ],
)
def test_references_are_links_to_the_book(source, expected):
    assert plain(source, Guide()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "`{prf:ref}` and ``a `b` c``",
        "```python\n# a < b\n:::{note}\n```",
        r"a price of \$5 and another of \$6 < 7",
        "$a^{[1](2)}_b$, $$\nx\n$$",
        "| a | b |\n|---|---|\n| 1 | 2 |",
    ],
)
def test_code_formulas_and_tables_stay(text):
    assert plain(text, Guide()) == text
    assert leftovers(text) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (":::{margin}\nA\n:::", r"directive \{margin\} has no plain form"),
        ("{download}`a.csv`", r"role \{download\}`a.csv` has no plain form"),
        (":::{prf:lemma} A\n:label: thm-a\nB", "is never closed"),
        (":::{exercise}\nA\n:::", "without a label"),
    ],
)
def test_what_has_no_plain_form_is_refused_by_name(text, what):
    with pytest.raises(NotPlain, match=what):
        plain(text, Guide())


@pytest.mark.parametrize(
    "seed",
    [
        ":::{prf:theorem} Title",
        "> :::",
        "```{note}",
        ":label: thm-a",
        "{prf:ref}`thm-a`",
        "{cite:p}`key`",
        "{{ name }}",
        "% a comment",
        "+++",
        "(target)=",
        '<a id="a"></a>',
        "[a](../book/errata.md)",
        "[a](#here)",
        "[^1]",
    ],
)
def test_each_kind_of_leftover_is_found(seed):
    assert leftovers(f"Text with $a$ and `b`.\n\n{seed}\n\nMore $c$.")
