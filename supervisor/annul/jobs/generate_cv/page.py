"""The offer in a web page: its job posting as data (JSON-LD) where it has one, else its text without the frame."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from bs4 import BeautifulSoup, Comment, Tag
from bs4.element import NavigableString, PreformattedString

_DROPPED = ("script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "nav", "footer", "aside",
            "form", "button", "select", "dialog", "head")  # fmt: skip
_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "dialog", "alertdialog", "complementary"})
_FRAME = re.compile(
    r"(?:^|[-_ ])(?:cookies?|consent|gdpr|rgpd|onetrust|didomi|breadcrumbs?|newsletter|social-?share|share-buttons"
    r"|navbar|nav-?menu|site-?header|site-?footer|skip-?link|popup|modal|related-jobs|similar-jobs)(?:$|[-_ ])",
    re.IGNORECASE,
)
_BLOCKS = frozenset(
    """address article blockquote br dd div dl dt fieldset figure h1 h2 h3 h4 h5 h6 header hr li main ol p pre section
    table tbody td th thead tr ul""".split()
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])", re.IGNORECASE)
# What a JobPosting says of the job; https://schema.org/JobPosting
_TOLD = (
    "description",
    "responsibilities",
    "qualifications",
    "skills",
    "experienceRequirements",
    "educationRequirements",
)
_DEEPEST = 200  # elements inside of each other; browsers stop at 512


class Posting(msgspec.Struct, frozen=True):
    """An offer as a page has it."""

    text: str
    title: str = ""
    company: str = ""


def read_page(data: bytes | str, charset: str = "") -> Posting:
    """The offer in HTML. Its text may be empty."""
    known = charset or None if isinstance(data, bytes) else None
    soup = BeautifulSoup(data, "html.parser", from_encoding=known)
    posting = _posting(soup)
    if posting is not None and len(posting.text) >= 200:
        return posting
    text = _text_of(soup)
    if posting is None:
        title = soup.find("h1")
        return Posting(text, _line(title.get_text(" ")) if isinstance(title, Tag) else "")
    # A posting with hardly a description: the page says more.
    return Posting(f"{posting.text}\n{text}" if text else posting.text, posting.title, posting.company)


def _posting(soup: BeautifulSoup) -> Posting | None:
    for script in soup.find_all("script", type=re.compile(r"^\s*application/ld\+json", re.IGNORECASE)):
        try:
            found = _find(msgspec.json.decode(script.get_text().strip()), 0)
        except (ValueError, RecursionError):
            continue  # many pages have broken ones
        if found is None:
            continue
        title = _line(_as_text(found.get("title") or found.get("name")))
        organization = found.get("hiringOrganization")
        company = _as_text(organization.get("name") if isinstance(organization, dict) else organization)
        lines = [title]
        told = (_as_text(found.get(key)) for key in _TOLD)
        lines += [_text_of(BeautifulSoup(text, "html.parser")) for text in told if text]
        return Posting("\n".join(line for line in lines if line), title, _line(company))
    return None


def _find(value: Any, depth: int) -> dict[str, Any] | None:
    """The first JobPosting in JSON-LD: alone, in a list, or in an @graph."""
    if depth > 6:
        return None
    if isinstance(value, list):
        return next((found for one in value[:100] if (found := _find(one, depth + 1))), None)
    if not isinstance(value, dict):
        return None
    kind = value.get("@type")
    if kind == "JobPosting" or (isinstance(kind, list) and "JobPosting" in kind):
        return value
    return next((found for key in ("@graph", "mainEntity") if (found := _find(value.get(key), depth + 1))), None)


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(filter(None, map(_as_text, value[:200])))
    if isinstance(value, dict):
        return _as_text(value.get("name") or value.get("description"))
    return value if isinstance(value, str) else ""


def _line(text: str) -> str:
    return " ".join(BeautifulSoup(text, "html.parser").get_text(" ").split())[:200] if text else ""


def _text_of(soup: BeautifulSoup) -> str:
    """The visible text, a line for each block, "- " before the items of lists."""
    root = soup.find("main") or soup.find(None, {"role": "main"}) or soup.body or soup
    assert isinstance(root, Tag)
    text = _gather(root)
    if len(text) < 200 and root is not soup:
        text = max(text, _gather(soup.body or soup), key=len)
    return text


def _gather(root: Tag) -> str:
    parts: list[str] = []
    # A stack, since pages nest deeper than Python calls.
    stack: list[tuple[Any, int] | str] = [(root, 0)]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            parts.append(top)
            continue
        node, depth = top
        if isinstance(node, NavigableString):
            if not isinstance(node, Comment | PreformattedString):
                parts.append(re.sub(r"\s+", " ", node))
            continue
        if not isinstance(node, Tag) or depth > _DEEPEST or (node is not root and _is_frame(node)):
            continue
        block = node.name in _BLOCKS
        if block:
            parts.append("\n- " if node.name == "li" else "\n")
            stack.append("\n")
        stack += [(child, depth + 1) for child in reversed(list(node.children))]
    lines = (re.sub(r" +", " ", line).strip() for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line not in ("", "-"))


def _is_frame(node: Tag) -> bool:
    """Whether an element is of the site, not of the offer, or is not seen."""
    if node.name in _DROPPED or str(node.get("role", "")).lower() in _ROLES or node.has_attr("hidden"):
        return True
    if str(node.get("aria-hidden", "")).lower() == "true" or _HIDDEN.search(str(node.get("style", ""))):
        return True
    named = node.get("class")
    names = [*(named if isinstance(named, list) else [str(named or "")]), str(node.get("id", ""))]
    return any(_FRAME.search(name) for name in names)
