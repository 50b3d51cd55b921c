"""Files of documents into text that keeps its structure, and passages that say where they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakeven.baselines._chunks import cut, words
from breakeven.harness.contracts import Document
from breakeven.harness.data import documents
from breakeven.harness.errors import UserError

PAGE = """<!doctype html><html><head><title> Our  handbook </title><style>p {color: red}</style></head><body>
<nav><a href="/">Home</a></nav>
<h1>Leave</h1>
<p>Staff have <b>28 days</b> of
leave.<br>Ask your manager.</p>
<script>alert("no")</script><!-- nor this -->
<ul><li>Sick leave</li><li><p>Parental leave</p></li></ul>
<table><tr><th>Grade</th><th>Days</th></tr><tr><td>A</td><td>30</td></tr></table>
<pre>a = 1
b = 2</pre>
<p hidden>Not for you.</p><div>Loose <span>words</span><p>A paragraph.</p> after it</div>
</body></html>"""

TEXT = """# Leave

Staff have 28 days of leave.
Ask your manager.

- Sick leave
- Parental leave

| Grade | Days |
| A | 30 |

a = 1
b = 2

Loose words

A paragraph.

after it"""


def html(folder: Path, content: str | bytes, name: str = "page.html") -> Document:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (found,) = documents(folder / name)
    return found


# --- HTML ------------------------------------------------------------------------------------


def test_html_becomes_text_with_its_structure(tmp_path: Path) -> None:
    assert html(tmp_path, PAGE).text == TEXT


def test_a_page_is_called_by_its_title_else_its_first_heading_else_its_file(tmp_path: Path) -> None:
    assert html(tmp_path, PAGE).title == "Our handbook"
    assert html(tmp_path, "<h1>Leave <i>policy</i></h1><p>x</p>").title == "Leave policy"
    assert html(tmp_path, "<p>x</p>").title == "page"


def test_of_a_page_with_a_main_part_only_that_is_read(tmp_path: Path) -> None:
    page = "<body><div>Cookies!</div><main><p>The text.</p></main><footer>Imprint</footer></body>"
    assert html(tmp_path, page).text == "The text."


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<table><tr><td><p>one</p><p>two</p></td><td>three</td></tr></table>", "| one two | three |"),
        (
            "<table><tr><td><table><tr><td>in 1</td><td>in 2</td></tr></table></td><td>out</td></tr></table>",
            "| in 1 in 2 | out |",
        ),
        ("<h2>A <div>heading</div></h2>", "## A heading"),
        ("<p>A <nobr>good <acronym>HR</acronym></nobr> <big>team</big> wins.</p>", "A good HR team wins."),
        ("<p>in <ruby>東京<rp>(</rp><rt>Tokyo</rt><rp>)</rp></ruby> today</p>", "in 東京(Tokyo) today"),
        ("<pre>a = 1<br>b<script>evil()</script>\n  <span>c</span></pre>", "a = 1\nb\n  c"),
    ],
)
def test_what_stands_apart_on_a_page_stays_apart_and_what_does_not_does_not(
    tmp_path: Path, page: str, text: str
) -> None:
    assert html(tmp_path, page).text == text


@pytest.mark.parametrize("style", ["display:none", "top: 0; DISPLAY : none!important", "visibility: hidden"])
def test_what_a_style_hides_is_left_out(tmp_path: Path, style: str) -> None:
    page = f'<p style="{style}">no</p><p>A <b style="{style}">no</b>yes</p><p style="x-display: none">or</p>'
    assert html(tmp_path, page).text == "A yes\n\nor"


def test_forms_are_left_out_unless_the_page_stands_in_one(tmp_path: Path) -> None:
    form = '<form><label>Your address</label><input name="a"><p>Subscribe!</p></form>'
    rest = "<p>Staff have 28 days of leave.</p><p>Ask your manager before you take any.</p>"
    assert "Subscribe" not in html(tmp_path, f"{rest}{form}").text
    assert html(tmp_path, f"<div>Home</div><form>{rest}</form>").text.startswith("Home\n\nStaff have 28 days")


def test_a_page_that_declares_iso_8859_1_is_read_as_windows_1252(tmp_path: Path) -> None:
    page = b'<meta charset="iso-8859-1"><p>\x93So\x94 \x96 \x80 5, \xfcber</p>'
    assert html(tmp_path, page).text == "“So” – € 5, über"
    assert html(tmp_path, b'<meta charset="latin1"><p>a \x81 b</p>').text.startswith("a ")


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-8", "windows-1252"])
def test_the_encoding_that_a_page_declares_is_used(tmp_path: Path, charset: str) -> None:
    page = f'<meta charset="{charset}"><p>Überstunden für Müller</p>'
    assert html(tmp_path, page.encode(charset)).text == "Überstunden für Müller"


def test_a_page_without_a_declared_encoding_is_utf_8(tmp_path: Path) -> None:
    assert html(tmp_path, "<p>Überstunden – 日本</p>").text == "Überstunden – 日本"


def test_a_page_in_another_encoding_than_it_says_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"page.html:2: is not utf-8"):
        html(tmp_path, b'<meta charset="utf-8">\n<p>\xfc</p>')


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown encoding 'klingon'"):
        html(tmp_path, '<meta charset="klingon"><p>x</p>')


@pytest.mark.parametrize("page", ["", "<!-- nothing -->", "<script>x</script>", "<p> </p>"])
def test_a_page_without_text_is_empty(tmp_path: Path, page: str) -> None:
    with pytest.raises(UserError, match="is empty"):
        html(tmp_path, page)


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60)
)
def test_any_text_survives_html(said: str) -> None:
    import html as escaping
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        page = f"<p>start {escaping.escape(said)} end</p>"
        text = html(Path(folder), page).text
    assert "".join(text.split()) == "start" + "".join(said.split()) + "end"


# --- PDF -------------------------------------------------------------------------------------


def pdf(*pages: str, title: str = "") -> bytes:
    """A PDF file of pages with one text each, a line a line."""
    parts = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for page in pages:
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in page.split("\n"))
        stream = f"BT /F1 12 Tf 72 700 Td {lines} ET"
        parts.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        font = "<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
        parts.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(parts)} 0 R "
            f"/Resources << /Font {font} >> >>"
        )
        kids.append(f"{len(parts)} 0 R")
    parts[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    parts.append(f"<< /Title ({title}) >>")
    made, places = "%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{part}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    head = f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}"
    end = f"trailer\n<< /Size {len(parts) + 1} /Root 1 0 R /Info {len(parts)} 0 R >>"
    return f"{made}{head}{end}\nstartxref\n{len(made)}\n%%EOF\n".encode("latin-1")


def test_a_pdf_becomes_text_and_knows_where_its_pages_begin(tmp_path: Path) -> None:
    (tmp_path / "rules.pdf").write_bytes(pdf("First page.", "Second page.", title="House rules"))
    (found,) = documents(tmp_path / "rules.pdf")
    assert (found.id, found.title, found.text) == ("rules", "House rules", "First page.\n\nSecond page.")
    pages = found.meta["pages"]
    assert [found.text[start:].split(" ")[0] for start in pages] == ["First", "Second"]  # type: ignore[union-attr,misc,index]


def test_lines_that_the_page_broke_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("Staff have twenty-\neight days\nof leave.\nAsk first."))
    (found,) = documents(tmp_path / "a.pdf")
    assert found.text == "Staff have twentyeight days of leave.\nAsk first."


def test_a_pdf_of_pictures_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(pdf("", ""))
    with pytest.raises(UserError, match=r"scan\.pdf: its 2 pages hold no text; .*OCR"):
        documents(tmp_path / "scan.pdf")


@pytest.mark.parametrize("content", [b"", b"no pdf at all", pdf("Text.")[:120]])
def test_a_broken_pdf_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.pdf").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.pdf: "):
        documents(tmp_path / "broken.pdf")


def test_an_encrypted_pdf_is_named(tmp_path: Path) -> None:
    import pypdf

    (tmp_path / "open.pdf").write_bytes(pdf("Text."))
    writer = pypdf.PdfWriter(clone_from=tmp_path / "open.pdf")
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(UserError, match=r"locked\.pdf: is encrypted"):
        documents(tmp_path / "locked.pdf")


# --- folders ---------------------------------------------------------------------------------


def test_a_folder_of_all_kinds_is_read_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.md").write_text("# Title of a\n\nText.")
    (tmp_path / "b.txt").write_text("Text of b.")
    (tmp_path / "sub" / "c.html").write_text("<p>Text of c.</p>")
    (tmp_path / "sub" / "d.pdf").write_bytes(pdf("Text of d."))
    (tmp_path / ".hidden.md").write_text("not read")
    (tmp_path / "picture.png").write_bytes(b"not read")
    found = {d.id: d for d in documents(tmp_path)}
    assert sorted(found) == ["a", "b", "sub/c", "sub/d"]
    assert found["a"].title == "Title of a"
    assert found["sub/d"].meta["path"] == "sub/d.pdf"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Learning C#\n\nText.", "Learning C#"),
        ("## Closed ##\n\nText.", "Closed"),
        ("```sh\n# install it\nmake\n```\n\n# The title\n\nText.", "The title"),
        ("~~~\n# a comment\n```\n# another\n~~~~\n# The title", "The title"),
        ("```\n# never closed", "page"),
        ("Text\rof old\r\r# Title\r", "Title"),
    ],
)
def test_a_markdown_file_is_called_by_its_first_heading(tmp_path: Path, text: str, title: str) -> None:
    (tmp_path / "page.md").write_bytes(text.encode())
    (found,) = documents(tmp_path / "page.md")
    assert found.title == title
    assert "\r" not in found.text


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>one</p>")
    (tmp_path / "a.md").write_text("two")
    assert {d.id: d.text for d in documents(tmp_path)} == {"a": "one", "a.md": "two"}


# --- where passages stand --------------------------------------------------------------------

HEADINGS = ("# Head\n\n", "\n\n# A heading of seven words or so\n\n", "\n\n## Below it\n\n")
PIECES = st.sampled_from(
    ("One. ", "Two! ", "\n", "\n\n", "  ", "字字字。", "a" * 40 + " ", '"So." ', "In five words. ", *HEADINGS)
)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@given(st.lists(PIECES, max_size=40).map("".join), st.integers(3, 40), st.integers(0, 20))
def test_a_passage_stands_in_its_document_where_it_says(text: str, limit: int, overlap: int) -> None:
    for p in cut([Document("d", text)], limit, min(overlap, limit // 2), words):
        assert squeezed(text[p.start : p.end]) == squeezed(p.text)


@given(st.lists(PIECES, max_size=40).map("".join), st.integers(3, 40), st.integers(0, 20))
def test_passages_cover_their_document(text: str, limit: int, overlap: int) -> None:
    covered = set()
    for p in cut([Document("d", text)], limit, min(overlap, limit // 2), words):
        covered.update(range(p.start, p.end))
    assert all(c.isspace() for i, c in enumerate(text) if i not in covered)


#: Headings ("#") and paragraphs of so many words.
SECTIONS = st.lists(st.tuples(st.sampled_from(["# h", "w"]), st.integers(1, 15)), min_size=2, max_size=8)


@given(SECTIONS, st.sampled_from([0, 4, 8]))
def test_no_passage_is_longer_than_the_limit_whatever_its_headings(
    sections: list[tuple[str, int]], overlap: int
) -> None:
    text = "\n\n".join(kind + " word" * more for kind, more in sections)
    passages = cut([Document("d", text)], 20, overlap, words)
    assert max(words([p.text for p in passages])) <= 20
    covered = {place for p in passages for place in range(p.start, p.end)}
    assert all(c.isspace() for place, c in enumerate(text) if place not in covered)


def test_headings_that_do_not_fit_before_what_they_head_stay_behind() -> None:
    def sizes(text: str) -> list[int]:
        return words([p.text for p in cut([Document("d", text)], 16, 0, words)])

    long = "w " * 15 + "."
    assert sizes(f"one two .\n\n# {'h ' * 7}\n\n{long}\n\n{long}") == [11, 16, 16]
    assert sizes(f"one two .\n\n# {'h ' * 7}\n\n# a b c\n\n{'w ' * 10}.\n\n{long}") == [11, 15, 16]
