"""The words that a CV is printed with: headings of its sections, and dates."""

from __future__ import annotations

import re

import msgspec

FIELDS = (
    "summary", "work", "education", "projects", "skills", "languages", "certificates", "awards", "publications",
    "volunteer", "interests", "references",
)  # fmt: skip
_ISO = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")


class Words(msgspec.Struct, frozen=True):
    """One language's words."""

    headings: tuple[str, ...]  # in the order of FIELDS
    months: tuple[str, ...]  # short, as CVs print them
    present: str  # the end of what goes on
    until: str  # before an end without a start
    day: str = "{} "  # how a day of the month stands before its month
    colon: str = ":"  # between a word and what it means


ENGLISH = Words(
    ("Summary", "Experience", "Education", "Projects", "Skills", "Languages", "Certificates", "Awards",
     "Publications", "Volunteering", "Interests", "References"),
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "Present", "until {}",
)  # fmt: skip
LANGUAGES = {
    "en": ENGLISH,
    "fr": Words(
        ("Profil", "Expérience professionnelle", "Formation", "Projets", "Compétences", "Langues", "Certifications",
         "Distinctions", "Publications", "Bénévolat", "Centres d’intérêt", "Références"),
        ("janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."),
        "aujourd’hui", "jusqu’en {}", colon="\u00a0:",
    ),
    "de": Words(
        ("Profil", "Berufserfahrung", "Ausbildung", "Projekte", "Kenntnisse", "Sprachen", "Zertifikate",
         "Auszeichnungen", "Publikationen", "Ehrenamt", "Interessen", "Referenzen"),
        ("Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."),
        "heute", "bis {}", day="{}. ",
    ),
    "es": Words(
        ("Perfil", "Experiencia profesional", "Formación", "Proyectos", "Habilidades", "Idiomas", "Certificaciones",
         "Premios", "Publicaciones", "Voluntariado", "Intereses", "Referencias"),
        ("ene.", "feb.", "mar.", "abr.", "may.", "jun.", "jul.", "ago.", "sept.", "oct.", "nov.", "dic."),
        "actualidad", "hasta {}",
    ),
    "it": Words(
        ("Profilo", "Esperienza professionale", "Formazione", "Progetti", "Competenze", "Lingue", "Certificazioni",
         "Premi", "Pubblicazioni", "Volontariato", "Interessi", "Referenze"),
        ("gen.", "febbr.", "mar.", "apr.", "mag.", "giu.", "lug.", "ago.", "set.", "ott.", "nov.", "dic."),
        "oggi", "fino a {}",
    ),
    "pt": Words(
        ("Perfil", "Experiência profissional", "Formação académica", "Projetos", "Competências", "Idiomas",
         "Certificações", "Prémios", "Publicações", "Voluntariado", "Interesses", "Referências"),
        ("jan.", "fev.", "mar.", "abr.", "maio", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez."),
        "presente", "até {}",
    ),
}  # fmt: skip


def heading(words: Words, field: str) -> str:
    """What stands over a section."""
    return words.headings[FIELDS.index(field)]


def period(words: Words, start: str | None, end: str | None, *, post: bool = True) -> str:
    """A span of time, to the month, of ISO 8601 dates.

    `post`: it is held until today where it has no end, and an end alone is no date of its own.
    """
    first, last = (one_date(words, value[:7]) if value else "" for value in (start, end))
    if first and last:
        return first if first == last else f"{first} – {last}"
    if last:
        return words.until.format(last) if post else last
    return f"{first} – {words.present}" if first and post else first


def one_date(words: Words, value: str | None) -> str:
    """One ISO 8601 date, as precise as it is; as it stands, where there is no such month or day."""
    match = _ISO.fullmatch(value or "")
    if not match:
        return value or ""
    year, month, day = match[1], int(match[2] or 0), int(match[3] or 0)
    if month > 12 or day > 31 or (match[2] and not month):
        return match[0]
    name = f"{words.months[month - 1]} " if month else ""
    return (words.day.format(day) if day else "") + name + year
