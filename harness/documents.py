"""Files into documents: Markdown and plain text as they are, HTML and PDF as text with their structure kept.

Headings become Markdown headings and paragraphs stay apart, so that whoever cuts a document finds its
borders. A document's `meta` says where it comes from: `path`, and of a PDF `pages`, the character that each
page begins at.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import readers
from breakeven.harness.contracts import Document, Json
from breakeven.harness.errors import UserError

if TYPE_CHECKING:
    from lxml.html import HtmlElement


@dataclass(frozen=True, slots=True)
class Text:
    """What a file says. An empty title means that it has none of its own."""

    text: str
    title: str = ""
    pages: tuple[int, ...] = ()


def is_document(path: Path) -> bool:
    """Whether the file's suffix is that of a text: .md, .markdown, .txt, .html, .htm or .pdf."""
    return path.suffix.lower() in _READERS


def from_folder(folder: Path, files: Iterable[Path], encoding: str = "utf-8") -> tuple[Document, ...]:
    """One document a file; ids are paths in the folder without suffix (with it, where two would be equal).

    Hidden files and folders, and files without text, are left out.

    Raises:
        UserError: when a file cannot be read as what it claims to be, or all are empty.
    """
    found: dict[str, Document] = {}
    for file in files:
        relative = file.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            name = relative.as_posix()
        if (document := _document(file, name, relative.as_posix(), encoding)) is not None:
            found[name] = document
    if not found:
        raise UserError("all texts in the folder are empty", file=folder)
    return tuple(found.values())


def from_file(file: Path, encoding: str = "utf-8") -> tuple[Document, ...]:
    """A single file as one document, called by its name without suffix. Raises UserError when it is empty."""
    document = _document(file, file.stem, file.name, encoding)
    if document is None:
        raise UserError("is empty", file=file)
    return (document,)


def _document(file: Path, name: str, path: str, encoding: str) -> Document | None:
    found = _READERS[file.suffix.lower()](file, encoding)
    if not found.text.strip():
        return None
    meta: dict[str, Json] = {"path": path}
    if found.pages:
        meta["pages"] = list(found.pages)
    return Document(name, found.text, found.title or file.stem, meta)


# --- Markdown and text -----------------------------------------------------------------------

_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$", re.MULTILINE)
#: Code between fences, or to the end, where a line that begins with # is no heading.
_CODE = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


def _plain(file: Path, encoding: str) -> Text:
    return Text(readers.read_text(file, encoding).replace("\r\n", "\n").replace("\r", "\n").strip())


def _markdown(file: Path, encoding: str) -> Text:
    text = _plain(file, encoding).text
    heading = _HEADING.search(_CODE.sub("", text))
    return Text(text, heading.group(1) if heading else "")


# --- HTML ------------------------------------------------------------------------------------

#: Elements that hold no text of the document.
_LEFT_OUT = frozenset({"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "nav"})
_LEFT_OUT |= {"head", "select", "button", "input", "textarea"}
#: A form with this share of the page's text or more is the page itself, as some systems make it.
_PAGE = 0.5
#: Elements within a line; every other one begins a paragraph of its own.
_INLINE = frozenset({"a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i"})
_INLINE |= {"img", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup"}
_INLINE |= {"time", "tt", "u", "var", "wbr", "acronym", "big", "nobr", "strike"}
_INLINE |= {"rb", "rp", "rt", "rtc", "ruby"}
_BREAK = "\x00"  # stands for <br> until white space is folded; HTML cannot hold it
_UNSEEN = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE)
_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


def _html(file: Path, encoding: str) -> Text:
    from lxml import etree, html

    content = file.read_bytes()
    if not content.strip():
        return Text("")
    declared = _CHARSET.search(content[:4096])
    name = (
        declared.group(1).decode("ascii")
        if declared and not content.startswith(b"\xef\xbb\xbf")
        else encoding
    )
    try:
        decoded = _decoded(content, name)
    except LookupError as error:
        raise UserError(f"declares the unknown encoding '{name}'", file=file) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"is not {name}: {error.reason} at byte {error.start}", file=file, line=line
        ) from error
    try:
        root = html.document_fromstring(decoded.encode("utf-8"), parser=html.HTMLParser(encoding="utf-8"))
    except (etree.ParserError, ValueError):
        return Text("")  # comments alone
    mains = root.xpath("//main | //*[@role='main']") or root.xpath("//article")
    top = mains[0] if len(mains) == 1 else root
    for form in [x for x in top.iterdescendants("form") if len(_line(x)) < _PAGE * len(_line(top))]:
        form.drop_tree()
    text = _joined(_blocks(top))
    titles = (_line(t) for t in [*root.xpath("//head/title"), *root.xpath("//h1")])
    return Text(text, next((t for t in titles if t), ""))


def _decoded(content: bytes, name: str) -> str:
    """Raises as `bytes.decode` does. What is declared ISO-8859-1 is windows-1252, as browsers read it (WHATWG
    encoding standard, 4.2), the few bytes that this leaves undefined included.
    """
    if name.lower().replace("-", "") == "utf8":
        return content.decode("utf-8-sig")
    if codecs.lookup(name).name == "iso8859-1":
        text = content.decode("cp1252", "surrogateescape")
        return "".join(chr(ord(c) & 0xFF) if "\udc80" <= c <= "\udcff" else c for c in text)
    return content.decode(name)


def _joined(blocks: Iterable[str]) -> str:
    """Paragraphs apart, items of a list and rows of a table one below the other."""
    text = ""
    before = ""
    for block in blocks:
        kind = block[:2] if block[:2] in ("- ", "| ") else ""
        text += ("" if not text else "\n" if kind and kind == before else "\n\n") + block
        before = kind
    return text


def _blocks(element: HtmlElement) -> Iterator[str]:
    """The paragraphs of an element, headings as Markdown, items with "- ", rows of tables with "| "."""
    tag = element.tag if isinstance(element.tag, str) else ""
    if not tag or tag in _LEFT_OUT or _is_hidden(element):
        return
    if tag == "pre":
        if code := _inline(element).replace(_BREAK, "\n").strip("\n"):
            yield re.sub(r"\n\s*\n", "\n", code)
        return
    if re.fullmatch(r"h[1-6]", tag):
        if line := _line(element):
            yield f"{'#' * int(tag[1])} {line}"
        return
    if tag == "tr":
        cells = [_line(cell) for cell in element if isinstance(cell.tag, str)]
        if any(cells):
            yield f"| {' | '.join(cells)} |"
        return
    prefix, words = ("- " if tag == "li" else ""), [element.text or ""]
    for child in element:
        name = child.tag if isinstance(child.tag, str) else ""
        if name == "br":
            words.append(_BREAK)
        elif name in _INLINE and not _holds_blocks(child):
            words.append("" if _is_hidden(child) else _inline(child))
        elif name:
            if paragraph := _tidy("".join(words)):
                yield prefix + paragraph
                prefix = ""
            words = []
            for block in _blocks(child):
                yield prefix + block
                prefix = ""
        words.append(child.tail or "")
    if paragraph := _tidy("".join(words)):
        yield prefix + paragraph


def _inline(element: HtmlElement) -> str:
    """Its text, but for what holds none; blocks in it are apart, as by <br>."""
    parts = [element.text or ""]
    for child in element:
        name = child.tag if isinstance(child.tag, str) else ""
        if name == "br":
            parts.append(_BREAK)
        elif name and name not in _LEFT_OUT and not _is_hidden(child):
            around = "" if name in _INLINE else _BREAK
            parts += [around, _inline(child), around]
        parts.append(child.tail or "")
    return "".join(parts)


def _line(element: HtmlElement) -> str:
    return " ".join(_inline(element).replace(_BREAK, " ").split())


def _tidy(text: str) -> str:
    """White space as a browser shows it: one space, line breaks where <br> puts them."""
    lines = (" ".join(line.split()) for line in re.sub(r"[\r\n\t ]+", " ", text).split(_BREAK))
    return "\n".join(line for line in lines if line)


def _holds_blocks(element: HtmlElement) -> bool:
    return any(
        isinstance(x.tag, str) and x.tag not in _INLINE and x.tag != "br" for x in element.iterdescendants()
    )


def _is_hidden(element: HtmlElement) -> bool:
    styled = _UNSEEN.search(element.get("style") or "") is not None
    return styled or element.get("hidden") is not None or element.get("aria-hidden") == "true"


# --- PDF -------------------------------------------------------------------------------------


def _pdf(file: Path, encoding: str) -> Text:
    import pypdf
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UserError("is encrypted", file=file, hint="save it without its password")
        pages = [_unwrapped(page.extract_text()) for page in reader.pages]
        title = _title(reader.metadata)
    except UserError:
        raise
    except (PyPdfError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"is not a readable PDF file: {said}", file=file) from error
    if not any(pages):
        raise UserError(
            f"its {len(pages)} pages hold no text",
            file=file,
            hint="scanned pages are pictures: run a text recognition (OCR) over them first",
        )
    text, starts = "", []
    for page in pages:
        text += "\n\n" if text and page else ""
        starts.append(len(text))
        text += page
    return Text(text, title, tuple(starts))


def _title(metadata: Mapping[str, Any] | None) -> str:
    value = (metadata or {}).get("/Title")
    return " ".join(str(value).split()) if value else ""


def _unwrapped(page: str) -> str:
    """Lines joined that were broken for want of room: within a sentence, and within a hyphenated word."""
    text = "\n".join(line.strip() for line in page.replace("\x00", "").splitlines())
    text = re.sub(r"(?<=\w)-\n(?=[a-zà-ÿ])", "", text)
    return re.sub(r"(?<=[^\s.!?:;…])\n(?=[a-zà-ÿ(])", " ", text).strip()


_READERS: Mapping[str, Callable[[Path, str], Text]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _plain,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
