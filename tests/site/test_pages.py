"""The built site, read as files: links, what it loads, figures, the ledger."""

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import edition
import pytest
import rehome

ROOT = Path(__file__).resolve().parents[2]
LOADS = ("script", "img", "iframe", "source", "video", "audio", "embed", "object")
AWAY = re.compile(r"(https?:)?//")
IN_CSS = re.compile(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)")
RAW = re.compile(
    r"`{3,}\{|:{3,}\s*\{|\{(prf:)?(ref|numref|eq|cite\S*|doc|func|class)\}`|\$[^$\n]+\$"
)


def addresses(soup):
    """Every address on a page, with its tag."""
    for tag in soup.find_all(True):
        for attribute in ("href", "src", "poster", "data"):
            address = tag.get(attribute)
            if address and (attribute != "data" or tag.name == "object"):
                yield tag, address


def base(pages):
    """The address under which the site is published."""
    canonical = pages["index.html"].select_one("link[rel=canonical]")["href"]
    assert canonical.endswith("/book/index.html")
    return canonical.removesuffix("book/index.html")


def test_the_site_is_not_empty(pages, chapters):
    assert "index.html" in pages
    assert chapters, "no notebook in notebooks/"
    assert not set(chapters) - set(pages), "chapters that were not built"
    for name in chapters:
        assert len(pages[name].find(id="main-content").get_text()) > 500, f"{name} says nothing"


def test_links_and_anchors_resolve(site, pages):
    anchors = {
        name: {tag["id"] for tag in soup.find_all(id=True)}
        | {tag["name"] for tag in soup.select("a[name]")}
        for name, soup in pages.items()
    }
    dead = []
    prefix = urlsplit(base(pages)).path
    for name, soup in pages.items():
        for tag, address in addresses(soup):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            if name == "404.html":  # read at any depth, it names places from the site's root
                assert not path or path.startswith(prefix), f"{name}: {address}"
                path = path.removeprefix(prefix)
            target = (site / name).parent / path if path else site / name
            target = target.resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or site not in target.parents:
                dead.append(f"{name}: <{tag.name}> {address}")
                continue
            known = anchors.get(target.relative_to(site).as_posix())
            if parts.fragment and known is not None and unquote(parts.fragment) not in known:
                dead.append(f"{name}: <{tag.name}> {address} (no such anchor)")
    assert not dead, "dead internal links:\n" + "\n".join(dead)


def test_ids_are_unique(pages):
    for name, soup in pages.items():
        counts = Counter(tag["id"] for tag in soup.find_all(id=True) if not tag.find_parent("svg"))
        assert not [i for i, n in counts.items() if n > 1], f"{name}: an id twice"


def test_nothing_is_loaded_from_elsewhere(pages):
    away = []
    for name, soup in pages.items():
        loaded = [(tag, address) for tag, address in addresses(soup) if tag.name in LOADS]
        loaded += [
            (tag, tag["href"])
            for tag in soup.select("link[href]")
            if not {"canonical", "license"} & set(tag.get("rel", []))
        ]
        loaded += [(tag, tag["srcset"]) for tag in soup.select("[srcset]")]
        loaded += [(tag, a) for tag in soup.select("[style]") for a in IN_CSS.findall(tag["style"])]
        loaded += [(tag, a) for tag in soup("style") for a in IN_CSS.findall(tag.get_text())]
        away += [
            f"{name}: <{tag.name}> {address}" for tag, address in loaded if AWAY.match(address)
        ]
    assert not away, "loaded from elsewhere:\n" + "\n".join(away)


def test_stylesheets_load_nothing_from_elsewhere(site):
    away = [
        f"{path.relative_to(site)}: {address}"
        for path in site.rglob("*.css")
        for address in IN_CSS.findall(path.read_text(encoding="utf-8"))
        if AWAY.match(address)
    ]
    assert not away, "\n".join(away)


def unlisted(name):
    """Whether a page is not for search engines: it is found from others, or says what others do."""
    return name in ("404.html", "search.html") or name.startswith("slides/")


def test_every_page_names_its_address_and_its_edition(pages):
    right, editions = rehome.site(*rehome.parse(rehome.current(ROOT))) + "/", set()
    for name, soup in pages.items():
        if unlisted(name):
            assert soup.select_one('meta[name=robots][content="noindex"]'), name
            assert not soup.select("link[rel=canonical]"), name
        else:
            (link,) = soup.select("link[rel=canonical]")
            page = "book/index.html" if name == "index.html" else name
            assert link["href"] == right + page
        if name != "index.html":
            editions.add(soup.select_one("footer .edition").get_text())
    assert len(editions) == 1
    assert edition.version(ROOT) in editions.pop()


def test_pages_carry_what_a_card_shows(site, pages):
    titles = set()
    for name, soup in pages.items():
        if unlisted(name):
            continue
        graph = {tag["property"]: tag["content"] for tag in soup.select("meta[property^=og]")}
        assert graph["og:url"] == soup.select_one("link[rel=canonical]")["href"]
        assert graph["og:image"].startswith(base(pages))
        assert (site / graph["og:image"].removeprefix(base(pages))).is_file(), name
        words = graph["og:description"]
        assert words == soup.select_one("meta[name=description]")["content"]
        assert 40 <= len(words) <= 200, f"{name}: {words}"
        assert not re.search(r"[\\$\[]", words), f"{name}: raw markup in {words}"
        titles.add(graph["og:title"])
    # The first page has the title of the one it leads to.
    assert len(titles) == len([name for name in pages if not unlisted(name)]) - 1


def test_search_engines_find_every_page(site, pages):
    tree = ElementTree.parse(site / "sitemap.xml")
    listed = [place.text for place in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    wanted = [name for name in pages if not unlisted(name) and name != "index.html"]
    assert sorted(listed) == sorted(base(pages) + name for name in wanted)
    assert listed[0].endswith("book/index.html"), "not in the order of the book"
    robots = (site / "robots.txt").read_text()
    assert f"Sitemap: {base(pages)}sitemap.xml" in robots


def test_images_have_alternative_text(pages):
    silent = [
        f"{name}: {image.get('src', '')[:80]}"
        for name, soup in pages.items()
        for image in soup.find_all("img")
        if not (image.get("alt") or "").strip() or image["alt"] == image.get("src")
    ]
    assert not silent, "images without alternative text:\n" + "\n".join(silent)


def test_figures_keep_their_place_and_are_fetched_late(pages, chapters):
    for name in chapters:
        for image in pages[name].select(".bd-article figure img"):
            assert image.get("loading") == "lazy", f"{name}: {image}"
            assert min(int(image["width"]), int(image["height"])) > 0, f"{name}: {image}"


def test_the_text_for_a_figure_says_what_it_shows(pages, chapters):
    said = Counter()
    for name in chapters:
        for figure in pages[name].find(id="main-content").find_all("figure"):
            text, caption = figure.find("img")["alt"], figure.find("figcaption").get_text(" ")
            assert len(text) >= 60, f"{name}: too short to say what is seen: {text}"
            assert " ".join(text.split()) != " ".join(caption.split()), f"{name}: the caption again"
            assert not re.search(r"\.(png|svg)\b|[\\$]", text), f"{name}: not for reading: {text}"
            said[text] += 1
    assert not [text for text, times in said.items() if times > 1], "one text for two figures"


def test_outputs_that_are_pictures_are_described(pages, chapters):
    for name in chapters:
        for svg in pages[name].select(".cell_output svg"):
            described = svg.get("aria-label") or svg.get("aria-labelledby") or svg.find("title")
            assert described or svg.get("aria-hidden"), f"{name}: a drawing without a description"


def test_figures_of_chapters_have_captions(pages, chapters):
    for name in chapters:
        article = pages[name].find(id="main-content")
        figures = article.find_all("figure")
        assert figures, f"{name} has no figure"
        for image in article.select(".cell_output img"):
            assert image.find_parent("figure"), f"{name}: an output image outside a figure"
        for figure in figures:
            caption = figure.find("figcaption")
            assert caption, f"{name}: a figure without a caption"
            assert len(caption.get_text(strip=True)) > 20, f"{name}: a caption that says nothing"


def test_no_raw_markup_is_shown(pages):
    for name, soup in pages.items():
        main = soup.find(id="main-content")
        if main is None:
            continue
        text = " ".join(
            string
            for string in main.find_all(string=True)
            if not {"pre", "code", "script", "style"} & {tag.name for tag in string.parents}
        )
        if shown := RAW.search(text):
            around = text[max(0, shown.start() - 60) : shown.end() + 60]
            pytest.fail(f"{name} shows raw markup: {around}")


# ------------------------------------------------------------------------------- the ledger


def anchor(kind, entry):
    return f"{kind}-{entry['id'].replace('.', '-')}"


@pytest.fixture(scope="module")
def claims():
    path = ROOT / "lib" / "implicit_bias" / "evidence" / "claims.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["claim"]


@pytest.fixture(scope="module")
def rows(pages):
    return pages["book/ledger.html"].select("#ledger-table tr[data-source]")


def test_the_ledger_lists_every_claim(rows, claims):
    assert len(claims) == 91
    assert {row["id"] for row in rows} == {anchor("claim", claim) for claim in claims}
    assert len(rows) == 91


def test_every_claim_of_a_built_chapter_has_a_verdict(rows, claims, chapters):
    written = {int(Path(name).stem[:2]) for name in chapters}
    verdicts = {row["id"]: row["data-verdict"] for row in rows}
    expected = [claim for claim in claims if claim["chapter"] in written]
    open_ = [c["id"] for c in expected if verdicts[anchor("claim", c)] == "open"]
    assert not open_, f"claims of written chapters that are open: {open_}"
    assert sum(verdict != "open" for verdict in verdicts.values()) >= 11


def test_a_claim_says_what_was_measured_and_links_to_it(rows, claims):
    by_id = {anchor("claim", claim): claim for claim in claims}
    for row in rows:
        claim, text = by_id[row["id"]], row.get_text(" ", strip=True)
        assert claim["id"] in text
        assert row.find("details"), f"{claim['id']}: assumptions are missing"
        if row["data-verdict"] == "open":
            assert f"chapter {claim['chapter']}" in text
            continue
        for word in ("measured", "bound", "control"):
            assert word in text, f"{claim['id']}: {word} is missing"
        links = {link["href"] for link in row.select(".claim-links a")}
        for kind in ("notebooks/.*#", "/tests/", "reference.html#|/lib/"):
            assert any(re.search(kind, link) for link in links), f"{claim['id']}: no link to {kind}"


def test_links_into_the_repository_point_at_files(rows):
    for row in rows:
        for link in row.select(".claim-links a[href^=http]"):
            path = link["href"].partition("/blob/main/")[2]
            assert path, f"{link['href']} is no file of the repository"
            assert (ROOT / path).exists(), f"{row['id']} links to a file that is not there: {path}"


def test_evidence_is_on_the_right_side_of_its_bound(claims):
    ledger = json.loads((ROOT / "_build" / "ledger.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in ledger] == [claim["id"] for claim in claims]
    for entry in ledger:
        if entry["verdict"] == "open":
            continue
        sides = entry["measured"], entry["control"]
        inside, outside = sides if entry["verdict"].startswith("holds") else sides[::-1]
        assert inside <= entry["bound"] < outside, entry


def test_corrections_and_claims_agree(pages, rows):
    path = ROOT / "lib" / "implicit_bias" / "evidence" / "corrections.toml"
    corrections = tomllib.loads(path.read_text(encoding="utf-8"))["correction"]
    shown = {row["id"] for row in pages["book/errata.html"].select("#errata-table tr[id]")}
    assert shown == {anchor("erratum", correction) for correction in corrections}
    for row in rows:
        if row["data-verdict"] == "holds as corrected":
            assert row.select_one(".claim-correction"), f"{row['id']}: corrected how?"
