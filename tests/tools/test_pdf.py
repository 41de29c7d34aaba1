"""How the pages of the site become one: order, places, links, solutions; the outline's words."""

import pdf
import pikepdf
import pytest
from bs4 import BeautifulSoup

BASE = "https://example.github.io/book/"
MAPS = "http://www.sitemaps.org/schemas/sitemap/0.9"
PAGES = ["book/index.html", "notebooks/01_a.html", "notebooks/02_b.html"]
PAGE = """<html><head><link rel="stylesheet" href="../_static/book.css?v=1">
<script>window.MathJax = {{}}</script></head><body><nav>menu</nav>
<article class="bd-article"><section id="top"><h1>{title}<a class="headerlink">#</a></h1>
<p id="x"><a href="#x">here</a> <a href="../notebooks/02_b.html#x">there</a>
<a href="../_downloads/a.zip">file</a> <a href="https://example.org/">away</a>
<img src="../_images/a.svg" alt="a" loading="lazy"></p><details><summary>s</summary>t</details>
{more}</section></article></body></html>"""
SOLUTION = '<div class="solution dropdown" id="sol"><p>It is <a href="#x">seven</a>.</p></div>'
CODE = '<div class="cell tag_hide-cell"><details class="hide"><pre>3 + 4</pre></details></div>'


@pytest.fixture
def site(tmp_path):
    for name in PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        more = SOLUTION + CODE if "01_a" in name else ""
        (tmp_path / name).write_text(PAGE.format(title=f"Title of {name}", more=more))
    urls = "".join(f"<url><loc>{BASE}{name}</loc></url>" for name in PAGES)
    (tmp_path / "sitemap.xml").write_text(f'<urlset xmlns="{MAPS}">{urls}</urlset>')
    return tmp_path


@pytest.fixture
def printed(site):
    return BeautifulSoup(pdf.Printer(site).book(), "html.parser")


def test_pages_come_in_the_order_of_the_book(printed):
    titles = [h1.get_text() for h1 in printed.find_all("h1")]
    assert titles == [*(f"Title of {name}" for name in PAGES), "Appendix: solutions"]
    assert not printed.find("nav")


def test_ids_are_unique_and_links_lead_to_them(printed):
    ids = [tag["id"] for tag in printed.find_all(id=True)]
    assert len(ids) == len(set(ids))
    links = [link["href"] for link in printed.select("main a[href]")]
    assert all(link[1:] in ids for link in links if link.startswith("#"))
    assert "#notebooks-01_a--x" in links
    assert "#notebooks-02_b--x" in links
    assert f"{BASE}_downloads/a.zip" in links
    assert "https://example.org/" in links


def test_pictures_are_those_of_the_site_and_nothing_is_folded(printed):
    assert {image["src"] for image in printed.find_all("img")} == {"../html/_images/a.svg"}
    assert all(details.has_attr("open") for details in printed.find_all("details"))


def test_solutions_stand_in_the_appendix_and_are_linked(printed):
    (solution,) = printed.select("div.solution")
    assert solution.find_previous("h1").get_text() == "Appendix: solutions"
    assert solution.find_previous("h2").get_text() == "Title of notebooks/01_a.html"
    assert solution.a["href"] == "#notebooks-01_a--x"
    (code,) = printed.select("div.cell")
    assert code.find_previous("h1").get_text() == "Appendix: solutions"
    assert code.find_previous("div", class_="solution")["id"] == solution["id"]
    (note,) = printed.select(".to-solution a")
    assert note["href"] == f"#{solution['id']}"


def test_without_a_built_book_it_says_what_to_do(tmp_path):
    with pytest.raises(pdf.NoBook, match="make book"):
        pdf.Printer(tmp_path)


@pytest.fixture
def outlined(tmp_path):
    with pikepdf.new() as book:
        for _ in range(3):
            book.add_blank_page(page_size=(100, 100))
        with book.open_outline() as outline:
            first = pikepdf.OutlineItem("A aA b", 0)
            first.children.append(pikepdf.OutlineItem("c", 1))
            outline.root += [first, pikepdf.OutlineItem("d", 2)]
        book.save(tmp_path / "a.pdf")
    return tmp_path / "a.pdf"


def test_the_outline_gets_the_words_of_the_headings(outlined):
    html = "<h1>A a\nb</h1><h2>c <span class='math'>\\(x\\)</span></h2><h1>d</h1>"
    assert pdf.name_outline(outlined, pdf.headings(html)) == 3
    with pikepdf.open(outlined) as book, book.open_outline() as outline:
        first, second = outline.root
        titles = [first.title, first.children[0].title, second.title]
    assert titles == ["A a b", "c x", "d"]


def test_an_outline_that_would_mislead_is_refused(outlined):
    with pytest.raises(pdf.NoBook, match="3 entries for 2 headings"):
        pdf.name_outline(outlined, ["a", "b"])
