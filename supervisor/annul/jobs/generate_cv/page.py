"""The offer in a web page: its job posting as data (JSON-LD) where it has one, else its text without the frame.

Parsed by lxml, whose time grows with the page's length and not with its square, whatever the page.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from lxml import etree, html

_DROPPED = frozenset(
    """script style noscript template svg canvas iframe object nav footer aside form button select dialog head
    """.split()
)
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
_ENOUGH = 200  # characters; less is hardly an offer


class Posting(msgspec.Struct, frozen=True):
    """An offer as a page has it."""

    text: str
    title: str = ""
    company: str = ""


def read_page(page: str) -> Posting:
    """The offer in HTML. Its text may be empty."""
    root = _tree(page)
    if root is None:
        return Posting("")
    posting = _posting(root)
    if posting is not None and len(posting.text) >= _ENOUGH:
        return posting
    text = _text_of(root)
    if posting is None:
        return Posting(text, next((line for h1 in root.iter("h1") if (line := _line(_gather(h1)))), ""))
    # A posting with hardly a description: the page says more.
    return Posting(f"{posting.text}\n{text}" if text else posting.text, posting.title, posting.company)


def _tree(page: str) -> Any:
    parser = html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    try:
        return html.document_fromstring(page.encode(errors="replace"), parser=parser)
    except etree.ParserError:
        return None  # nothing in it
    except etree.XMLSyntaxError as error:
        raise MemoryError from error  # any syntax is recovered from: what libxml2 gives up on is too large for it


def _posting(root: Any) -> Posting | None:
    for script in root.iter("script"):
        if not (script.get("type") or "").strip().lower().startswith("application/ld+json"):
            continue
        try:
            found = _find(msgspec.json.decode((script.text or "").strip()), 0)
        except (ValueError, RecursionError):
            continue  # many pages have broken ones
        if found is None:
            continue
        title = _line(_as_text(found.get("title") or found.get("name")))
        organization = found.get("hiringOrganization")
        company = _as_text(organization.get("name") if isinstance(organization, dict) else organization)
        told = (_as_text(found.get(key)) for key in _TOLD)
        lines = [title, *(_gather(tree) for text in told if text and (tree := _tree(text)) is not None)]
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


def _as_text(value: Any, depth: int = 0) -> str:
    if isinstance(value, list) and depth < 4:
        return "\n".join(filter(None, (_as_text(one, depth + 1) for one in value[:200])))
    if isinstance(value, dict) and depth < 4:
        return _as_text(value.get("name") or value.get("description"), depth + 1)
    return value if isinstance(value, str) else ""


def _line(text: str) -> str:
    """A name on one line; some write them with entities."""
    tree = _tree(text) if "&" in text or "<" in text else None
    return " ".join((text if tree is None else _gather(tree)).split())[:200]


def _text_of(root: Any) -> str:
    """The visible text, a line for each block, "- " before the items of lists."""
    main = next(root.iter("main"), None)
    text = "" if main is None else _gather(main)
    return text if len(text) >= _ENOUGH else max(text, _gather(root), key=len)


def _gather(root: Any) -> str:
    parts: list[str] = []
    skipped = None  # the element of the frame that is being passed over
    for event, node in etree.iterwalk(root, events=("start", "end")):
        block = node.tag in _BLOCKS
        if event == "start":
            if skipped is None and node is not root and _is_frame(node):
                skipped = node
            if skipped is None:
                parts += ("\n- " if node.tag == "li" else "\n" if block else "", _spaced(node.text))
            continue
        if skipped is None and block:
            parts.append("\n")
        if node is skipped:
            skipped = None
        if skipped is None and node is not root:
            parts.append(_spaced(node.tail))
    lines = (re.sub(r" +", " ", line).strip() for line in re.sub(r"- \s*\n+\s*", "- ", "".join(parts)).split("\n"))
    return "\n".join(line for line in lines if line not in ("", "-"))


def _spaced(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")


def _is_frame(node: Any) -> bool:
    """Whether an element is of the site, not of the offer, or is not seen."""
    about = node.attrib
    if node.tag in _DROPPED or about.get("role", "").lower() in _ROLES or "hidden" in about:
        return True
    if about.get("aria-hidden", "").lower() == "true" or _HIDDEN.search(about.get("style", "")):
        return True
    return any(_FRAME.search(name) for name in (*about.get("class", "").split(), about.get("id", "")))
