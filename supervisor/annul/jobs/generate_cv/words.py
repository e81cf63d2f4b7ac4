"""Texts to words that can be compared: without case and accents, by their stems, with technologies whole.

Everything here is pure. One language is used for the stems of both sides of a comparison, the CV's: what matters
is that the same word gives the same key.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

import msgspec
import snowballstemmer

from annul.jobs.generate_cv.known import ALIASES, AMBIGUOUS

Language = Literal["en", "fr", "de", "es"]
LANGUAGES: tuple[Language, ...] = ("en", "fr", "de", "es")
_STEMMERS = {"en": "english", "fr": "french", "de": "german", "es": "spanish"}

# fmt: off
STOP: dict[Language, frozenset[str]] = {
    "en": frozenset("""
        a about above after again all also am an and any are as at be because been before being below between
        both but by can could did do does doing down during each etc few for from further had has have having he
        her here hers him his how i if in into is it its itself just me more most my near of off on once only or
        other our ours out over own per same she should so some such than that the their theirs them then there
        these they this those through to too under until up upon us very via was we were what when where which
        while who whom why will with within would you your yours s t e g
    """.split()),
    "fr": frozenset("""
        a afin ai ainsi alors apres au aucune aussi autre autres aux avant avec avez avoir avons bien c ca car
        ce ceci cela celle celles celui ces cet cette ceux chaque chez comme d dans de depuis des donc dont du
        durant elle elles en encore entre es est et etc etaient etait etant ete etes etre eu eux fait font il
        ils j je jusqu jusque l la le les leur leurs lors lui m ma mais me meme mes moi moins mon n nos notre
        nous on ont ou par pendant peu plus pour pourquoi puis qu quand que quel quelle quels qui s sa se sera
        ses si soit son sont sous sur t ta te tes toi ton tous tout toute toutes tres tu un une vers via vos
        votre vous y
    """.split()),
    "de": frozenset("""
        aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bin bis bist da
        dabei damit dann das dass dein deine dem den denn der deren des dessen die dies diese diesem diesen
        dieser dieses doch dort du durch ein eine einem einen einer eines er es etc etwa euch euer eure fur
        gegen gemeinsam hat haben hier ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jedem
        jeden jeder jedes kann konnen man mein mich mir mit nach neben noch nun nur ob oder pro sehr sein seine
        seit sich sie sind so solche sowie uber um und uns unser unsere unserem unseren unter vom von vor
        wahrend war waren was weil weitere welche wenn wer werden wie wir wird wo zu zum zur zwischen
    """.split()),
    "es": frozenset("""
        a al algo ante antes asi aun aunque bajo cada como con contra cual cuando de del desde donde dos durante
        e el ella ellas ellos en entre era es esa ese eso esta estaba estan estar este esto estos etc fue fueron
        ha han hasta hay la las le les lo los mas me mi mis muy nos nuestra nuestras nuestro nuestros o os otra
        otras otro otros para pero por porque que quien se sea ser si sido sobre son su sus tal tambien te tiene
        tienen todo todos toda todas tu tus un una uno unos usted y ya yo
    """.split()),
}
# fmt: on
NEGATIONS = frozenset(
    "no not never none without nor pas sans jamais aucun nicht kein keine ohne nie ni nunca sin".split()
)

# Technologies that plain word boundaries would cut, and what is written with or without a hyphen. First match wins.
_SPECIAL = re.compile(
    r"(?<![\w])(?:"
    r"c\+\+(?:\d\d)?|c\#|f\#|asp\.net|ado\.net|vb\.net|\.net\b(?:\s?core\b)?|"
    r"(?:node|vue|next|nuxt|react|express|three|d3|angular|backbone|ember)\.?js\b|"
    r"ci\s?[/-]\s?cd\b|tcp\s?/\s?ip\b|u[ix]\s?/\s?u[ix]\b|pl/sql\b|t-sql\b|r\s?&\s?d\b|a/b\b|b2b\b|b2c\b|"
    r"front[\s-]?end\b|back[\s-]?end\b|full[\s-]?stack\b|e[\s-]?commerce\b|dev[\s-]?ops\b|s/4\s?hana\b"
    r")",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d+(?:[  \u202f.,'’]\d{3})*(?:[.,]\d+)?"
    r"(?:\s?(?:[%€$£‰]|(?:k|m|bn|mio|mrd|millions?|millionen|millones|mill[oó]n|billions?|milliards?|milliarden"
    r"|thousand|tausend|mille|mil)\b))?",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?:^|[.!?:;•·\n|(]|[-–—]\s)\s*[\"'«»“”‘’(*_]*\s*$")


class Word(msgspec.Struct, frozen=True, gc=False):
    """One word of a text."""

    text: str  # as written
    key: str  # what it is compared by
    folded: str  # without case and accents; for technologies their one spelling
    at: int  # index in the text
    first: bool  # it begins a sentence, where a capital means nothing
    number: bool = False
    special: bool = False  # a technology written with signs

    @property
    def capital(self) -> bool:
        """Written as names are: a capital where the sentence does not ask for one, or more than one."""
        upper = sum(c.isupper() for c in self.text)
        return upper > 1 or (upper == 1 and not self.first)


@lru_cache(maxsize=65536)
def fold(text: str) -> str:
    """`text` without case and accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c))


@lru_cache(maxsize=65536)
def stem(folded: str, language: Language) -> str:
    """The stem of a word that is folded already; words of up to three letters are their own."""
    if len(folded) <= 3 or not folded.isalpha():
        return folded
    return str(_stemmer(language).stemWord(folded))


@lru_cache(maxsize=4)
def _stemmer(language: Language) -> snowballstemmer.Stemmer:
    return snowballstemmer.stemmer(_STEMMERS[language])


def words(text: str, language: Language) -> list[Word]:
    """The words of a text, in order; numbers with their sign, technologies whole."""
    text = unicodedata.normalize("NFC", text)
    found = []
    place = 0
    while place < len(text):
        if not (text[place].isalnum() or text[place] == "."):
            place += 1
            continue
        word, end = _word_at(text, place, language)
        if word is not None:
            found.append(word)
        place = max(end, place + 1)
    return found


def _word_at(text: str, place: int, language: Language) -> tuple[Word | None, int]:
    first = bool(_SENTENCE_END.search(text, max(0, place - 12), place)) or place == 0
    if match := _SPECIAL.match(text, place):
        plain = re.sub(r"[\s]|(?<=[a-z])[-.](?=[a-z])", "", fold(match[0]))
        plain = ALIASES.get(plain, plain)
        return Word(match[0], plain, plain, place, first, special=True), match.end()
    if (match := _NUMBER.match(text, place)) and not text[match.end() : match.end() + 1].isalpha():
        return Word(match[0], plain_number(match[0]), plain_number(match[0]), place, first, number=True), match.end()
    if match := _WORD.match(text, place):
        plain = ALIASES.get(fold(match[0]), fold(match[0]))
        # What has digits in it ("3M", "ISO9001") is compared whole.
        number = plain[0].isdigit()
        elided = len(match[0]) == 1 and text[match.end() : match.end() + 1] in ("'", "’")  # "C'est" is no C
        written = match[0].lower() if elided else match[0]
        return Word(written, stem(plain, language), plain, place, first, number=number), match.end()
    return None, place + 1


def plain_number(text: str) -> str:
    """A number as written, in one spelling: "1 200", "1,200" and "1.200" are 1200; "3,5 %" is 3.5%.

    What makes it a thousand or a million times more stays with it: "40 million" is no 40.
    """
    text = re.sub(r"\s", "", text)
    sign = re.search(r"[^\d]*$", text)
    assert sign is not None
    digits = re.sub(r"[.,'’](?=\d{3}(?!\d))", "", text[: sign.start()])
    return digits.replace(",", ".") + fold(sign[0])


def is_stop(word: Word, language: Language | None = None) -> bool:
    """Whether a word says nothing by itself; `language` None: in any of them."""
    if word.special or word.number or (len(word.folded) == 1 and word.text.isupper() and word.folded in AMBIGUOUS):
        return False
    if language is not None:
        return word.folded in STOP[language]
    return any(word.folded in each for each in STOP.values())


def language_of(text: str) -> Language:
    """The language that most of the small words are of; English where there are none."""
    counts = dict.fromkeys(LANGUAGES, 0)
    for match in _WORD.finditer(fold(text[:50_000])):
        for language in LANGUAGES:
            counts[language] += match[0] in STOP[language]
    return max(LANGUAGES, key=lambda language: counts[language])
