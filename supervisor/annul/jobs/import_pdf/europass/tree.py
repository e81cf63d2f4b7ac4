"""XML to a small tree, within limits: no document type, so no entities of its own, and bounded depth and size."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from xml.parsers import expat

import msgspec

DEPTH = 60  # real ones have 12
NODES = 200_000
_DATE = re.compile(r"(?:19|20)\d\d(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)?")


class NotReadable(Exception):
    """The XML is damaged, or beyond the limits. Its text says which."""


class Node(msgspec.Struct):
    """An element, without namespace. A node whose text was taken is `used`: what is not is kept as unplaced."""

    name: str
    attributes: dict[str, str]
    text: str = ""  # its own, without its children's
    children: list[Node] = []
    used: bool = False

    def all(self, *path: str) -> list[Node]:
        """The elements at a path of names below this one."""
        found = [self]
        for name in path:
            found = [child for node in found for child in node.children if child.name == name]
        return found

    def first(self, *path: str) -> Node | None:
        found = self.all(*path)
        return found[0] if found else None

    def value(self, *path: str) -> str:
        """The text of the first element at a path, as plain text in one line; "" if there is none."""
        return " ".join(self.lines(*path))

    def lines(self, *path: str) -> list[str]:
        """The text of the first element at a path, which may be escaped HTML, in its lines."""
        node = self.first(*path)
        if node is None:
            return []
        node.used = True
        return plain_lines(node.text)[0]

    def prose(self, *path: str) -> tuple[str, list[str]]:
        """Escaped HTML at a path: its paragraphs as one text, and its list items."""
        node = self.first(*path)
        if node is None:
            return "", []
        node.used = True
        lines, items = plain_lines(node.text)
        return "\n".join(line for line in lines if line not in items), items

    def date(self, *path: str) -> str | None:
        """An ISO date at a path, as precise as it is written; None if there is none."""
        text = self.value(*path)
        match = _DATE.match(text)
        return match[0] if match else None


def parse(data: bytes) -> Node:
    """The root of an XML document. Raises NotReadable."""
    top = Node("", {})
    open_: list[Node] = [top]
    count = 0
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(open_) > DEPTH or count > NODES:
            raise NotReadable("it has more elements than a CV")
        node = Node(name.rpartition("}")[2], attributes)
        open_[-1].children.append(node)
        open_.append(node)

    def end(_name: str) -> None:
        node = open_.pop()
        node.text = node.text.strip()

    def text(piece: str) -> None:
        open_[-1].text += piece

    def refuse(*_: object) -> None:
        raise NotReadable("it has a document type, which may define entities")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise NotReadable(f"it is damaged ({error})") from error
    return top.children[0]


def plain_lines(text: str) -> tuple[list[str], list[str]]:
    """A text that may be HTML: all its lines, and which of them are list items."""
    if "<" not in text:
        lines = [" ".join(html.unescape(line).split()) for line in text.splitlines()]
        return [line for line in lines if line], []
    reader = _Lines()
    reader.feed(text)
    reader.close()
    reader.cut()
    return reader.lines, reader.items


class _Lines(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self.items: list[str] = []
        self.now = ""
        self.item = False

    def cut(self) -> None:
        if line := " ".join(self.now.split()):
            self.lines.append(line)
            if self.item:
                self.items.append(line)
        self.now = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in ("p", "br", "li", "ul", "ol", "div"):
            self.cut()
            self.item = tag == "li" or (tag in ("p", "br") and self.item)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "li", "ul", "ol", "div"):
            self.cut()
            self.item = self.item and tag == "p"

    def handle_data(self, data: str) -> None:
        self.now += data
