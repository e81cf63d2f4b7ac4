"""URLs and the accounts they name."""

from __future__ import annotations

import re

from annul.jobs.resume import Profile

EMAIL = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}", re.UNICODE)
_TLD = (
    "com|org|net|edu|io|dev|me|fr|de|es|it|eu|uk|ch|at|be|nl|pt|br|ca|us|co|info|biz|tech|ai|app|xyz|cn|jp|kr|in|"
    "pl|se|no|dk|fi|cz|ru|site|online|page|blog|inc|design|gov|tv|ly|sh|gg|example|academy|studio|works|name|pro"
)
URL = re.compile(
    rf"(?<![@\w.])(?:https?://[^\s,;<>()|]+|(?:www\.)?(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:{_TLD})(?![a-z0-9.@-]*@)\b(?:/[^\s,;<>()|]*)?)",
    re.IGNORECASE,
)
# The account is the first path piece that no such word is.
_SKIP = {"in", "pub", "u", "user", "users", "profile", "people", "c", "channel", "citations", "company", "@", "intl"}
_NETWORKS = {
    "linkedin.": "LinkedIn", "github.com": "GitHub", "github.io": "", "gitlab.com": "GitLab",
    "bitbucket.org": "Bitbucket", "twitter.com": "Twitter", "x.com": "X", "facebook.com": "Facebook",
    "instagram.com": "Instagram", "stackoverflow.com": "Stack Overflow", "stackexchange.com": "Stack Exchange",
    "medium.com": "Medium", "dev.to": "DEV", "youtube.com": "YouTube", "behance.net": "Behance",
    "dribbble.com": "Dribbble", "orcid.org": "ORCID", "researchgate.net": "ResearchGate",
    "scholar.google": "Google Scholar", "kaggle.com": "Kaggle", "xing.com": "XING", "viadeo.com": "Viadeo",
    "mastodon.": "Mastodon", "codepen.io": "CodePen", "hackerrank.com": "HackerRank", "leetcode.com": "LeetCode",
    "telegram.me": "Telegram", "t.me": "Telegram", "tumblr.com": "Tumblr", "vimeo.com": "Vimeo",
    "soundcloud.com": "SoundCloud", "malt.fr": "Malt", "huggingface.co": "Hugging Face", "bsky.app": "Bluesky",
    "codewars.com": "Codewars", "skype.com": "Skype", "pinterest.com": "Pinterest", "500px.com": "500px",
    "npmjs.com": "npm",
}  # fmt: skip
_NAMES = {
    "linkedin": "LinkedIn", "github": "GitHub", "gitlab": "GitLab", "twitter": "Twitter",
    "stackoverflow": "Stack Overflow", "stack overflow": "Stack Overflow", "facebook": "Facebook",
    "instagram": "Instagram", "skype": "Skype", "xing": "XING", "orcid": "ORCID", "medium": "Medium",
    "youtube": "YouTube", "kaggle": "Kaggle", "behance": "Behance", "dribbble": "Dribbble",
    "google scholar": "Google Scholar", "researchgate": "ResearchGate", "mastodon": "Mastodon",
    "bitbucket": "Bitbucket", "reddit": "Reddit", "telegram": "Telegram", "bluesky": "Bluesky", "x": "X",
}  # fmt: skip


def with_scheme(text: str) -> str:
    """The URL with a scheme, as the schema wants it."""
    text = text.rstrip(".,;")
    return text if re.match(r"https?://", text, re.IGNORECASE) else "https://" + text


def network_of(text: str) -> str:
    """The network of that name; "" if there is none."""
    return _NAMES.get(text.strip().casefold(), "") if text else ""


def profile_of(text: str) -> Profile | None:
    """The account that a URL names; None if it is a site of another kind."""
    url = with_scheme(text)
    low = re.sub(r"^https?://(?:www\.|m\.|fr\.|de\.|uk\.|es\.)?", "", url.casefold())
    host = low.partition("/")[0]
    for domain, network in _NETWORKS.items():
        matches = (
            host.startswith(domain) or ("." + domain) in host
            if domain.endswith(".")
            else (host == domain or host.endswith("." + domain) or (domain in host and domain == "scholar.google"))
        )
        if matches and network:
            path = re.sub(r"^https?://[^/]*/?", "", url).split("?")[0]
            pieces = [piece for piece in path.split("/") if piece and piece.casefold() not in _SKIP]
            user = next((piece for piece in pieces if not re.fullmatch(r"\d+", piece)), pieces[0] if pieces else "")
            if not user and host.count(".") > 1:
                user = host.split(".")[0]  # name.tumblr.com
            return Profile(network=network, username=user, url=url) if user else None
    return None
