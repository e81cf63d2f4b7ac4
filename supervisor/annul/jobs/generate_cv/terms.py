"""What an offer asks for: its terms, weighted by what they are and where they stand. Pure.

A term is a known skill (known.py), something written as a name ("Zabbix", "ISO 9001"), or a phrase between two
small words that the offer repeats or has among its requirements. Sections are told by their headings, in English,
French, German and Spanish: what is asked for weighs more than what would be nice, and what the employer says of
itself or offers weighs nothing.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from annul.jobs.generate_cv.known import AMBIGUOUS, LONGEST, SKILLS
from annul.jobs.generate_cv.words import Language, Word, fold, is_stop, words

MOST = 40  # terms of an offer that count; further ones are its prose
_LONGEST_PHRASE = 3

# How much counts what is asked for, is to be done, would be nice, and what the employer says of itself: nothing.
_REQUIRED, _TASKS, _NICE, _ABOUT = 2.0, 1.3, 0.6, 0.0
_SKILL, _NAME, _PHRASE, _WORD = 3.0, 2.0, 1.0, 0.6  # what a term weighs by what it is
_HEADINGS: tuple[tuple[float, re.Pattern[str]], ...] = tuple(
    (weight, re.compile("|".join(lines.split("\n"))))
    for weight, lines in (
        (
            _NICE,
            r"""nice[ -]to[ -]have
bonus|preferred|would be a plus|desirable
un plus\b|souhaite|apprecie|atouts?\b|idealement
von vorteil|wunschenswert|pluspunkt
deseable|valorable|se valorara|un punto a favor""",
        ),
        (
            _REQUIRED,
            r"""requirement|required|must[ -]have|qualification|your profile|who you are|what you bring
what we.re looking for|you have|skills?\b
profil recherche|votre profil|ton profil|le profil|competences|prerequis|pre-requis|exigences
anforderung|ihr profil|dein profil|das bringst du mit|das bringen sie mit|qualifikation|kenntnisse
requisitos|tu perfil|perfil buscado|lo que buscamos|conocimientos|imprescindible""",
        ),
        (
            _TASKS,
            r"""responsibilit|your role|the role|what you.ll do|what you will do|tasks|duties|stack|technolog
missions?\b|vos taches|le poste|environnement technique
aufgaben|deine rolle|ihre rolle|das erwartet
funciones|tareas|responsabilidades|el puesto""",
        ),
        (
            _ABOUT,
            r"""benefits|what we offer|we offer|perks|about us|who we are|our company|how to apply|our values|salary
compensation|equal opportunity|diversity|diversite|privacy|datenschutz
avantages|nous offrons|ce que nous offrons|a propos|qui sommes-nous|notre entreprise|postuler|remuneration
wir bieten|was wir bieten|uber uns|wer wir sind|bewerbung|gehalt
ofrecemos|sobre nosotros|quienes somos|beneficios""",
        ),
    )
)
# Words of every offer, that say nothing of what is asked for.
_GENERIC = frozenset(
    """
    several another daily habit help helps helpful plenty care make makes making run runs running ensure ensuring
    including include deliver delivering current existing modern high highly best better close closely first
    participer participez assurer assurez realiser realisez mener menez accompagner contribuer contribuez garantir
    plusieurs quotidien quotidienne reguliere divers diverses differents courant courante
    mehrere mehrjahrige taglich taglichen verschiedene verschiedenen idealerweise mitbringen mitwirken unterstutzung
    varios varias diario diaria realizar participar colaborar garantizar
    ability able activities advantage apply applicant application area areas background benefit benefits bonus
    build business candidate candidates career colleagues company contract culture customer customers day days
    degree different diploma environment excellent experience experienced experiences familiar fluent friendly
    full-time good great help ideal ideally in-depth industry international job jobs join knowledge level
    location looking love minimum month months motivated multiple must need new nice offer office opportunity
    our part passion people permanent plus position practical preferred problem problems process product
    products profile project projects proven qualification qualifications relevant remote required requirement
    requirements responsibilities responsible role salary senior junior similar skill skills solid solution
    solutions spirit start strong successful support system systems task tasks team teams technical technologies
    technology time tool tools training understanding use used user users using values various way week will
    willing work working world year years young your write written mission missions plus plusieurs annee annees
    ans an atout atouts avantages besoin bon bonne bonnes candidat candidature capacite client clients
    competence competences connaissance connaissances contexte contrat cdi cdd culture diplome domaine
    entreprise equipe equipes esprit excellent excellente experience expertise exigences fonction formation
    forte groupe idealement jour jours lieu maitrise metier mois niveau nouvelle nouveaux offre outils
    participer poste pratique prise profil projet projets qualite recherche recherchons rejoindre rejoignez
    remuneration requis salaire savoir sein selon semaine service services similaire societe solide solides
    souhaite souhaitee taches teletravail temps travail travailler utilisation vie ville jahre jahren aufgabe
    aufgaben anforderungen arbeit arbeiten ausbildung bereich bereichen bereitschaft berufserfahrung bewerbung
    deine dich du entwicklung erfahrung erfahrungen erste fahigkeit firma freude gehalt gern gerne gute guten
    gutes hohe ihr kenntnisse kollegen kunden lust mitarbeiter moglichkeit profil projekte projekten sicherer
    standort stelle studium team teams umgang unbefristet unternehmen vergleichbar vorteil wunschenswert zeit
    zusammenarbeit abgeschlossenes anos ano ambiente buscamos buena buenas candidato capacidad clientes
    conocimiento conocimientos contrato empresa equipo equipos experiencia formacion funciones grupo horario
    imprescindible incorporacion jornada manejo nivel ofrecemos oferta perfil persona personas proyecto
    proyectos puesto requisitos salario sector trabajar trabajo valorable uso
    """.split()
)


_BULLET = re.compile(r"\s*[-*•·▪–]\s")


class Term(msgspec.Struct, frozen=True):
    """Something that an offer asks for."""

    text: str  # as the offer first writes it
    keys: tuple[str, ...]  # of its words, to find it by
    weight: float
    skill: bool  # known to be one
    exact: bool = False  # found only where it is written with a capital: "Go"


def sections(text: str) -> list[tuple[str, float]]:
    """The lines of an offer, each with how much what it says counts."""
    weight = 1.0
    found = []
    for raw in text.splitlines():
        line = raw.lstrip(" \t#*•·▪–—-_=").rstrip(" \t*_=")
        if not line:
            continue
        low = fold(line)
        own = next((factor for factor, pattern in _HEADINGS if pattern.search(low)), None)
        is_heading = (
            own is not None
            and not _BULLET.match(raw)
            and len(line) <= 60
            and (len(line.split()) <= 6 or line.endswith(":"))
        )
        if is_heading and own is not None:
            weight = own
        # "Docker is a plus" in the middle of a list of requirements is about that line only.
        found.append((line, own if own == _NICE and not is_heading and weight > _ABOUT else weight))
    return found


def terms(text: str, language: Language, *, without: str = "") -> list[Term]:
    """The terms of an offer, heaviest first, at most `MOST`. `language`: of the stems, the CV's.

    `without`: names that are no terms, such as the employer's.
    """
    own_names = {word.folded for word in words(without, language)}
    counts: Counter[tuple[str, ...]] = Counter()
    weights: dict[tuple[str, ...], float] = {}
    first: dict[tuple[str, ...], Term] = {}

    def take(run: list[Word], base: float, factor: float, *, skill: bool) -> None:
        keys = tuple(word.key for word in run)
        counts[keys] += 1
        weights[keys] = max(weights.get(keys, 0.0), base * factor)
        if keys not in first:
            exact = skill and len(run) == 1 and run[0].folded in AMBIGUOUS
            first[keys] = Term(" ".join(word.text for word in run), keys, 0.0, skill, exact)

    for line, factor in sections(text):
        if factor <= _ABOUT:
            continue
        shouted = line.isupper()
        for run, skill in _runs(words(line, language), own_names):
            if skill:
                take(run, _SKILL, factor, skill=True)
            elif any(word.special or _is_name(word, shouted) for word in run):
                take(run, _NAME, factor, skill=False)
            elif len(run) <= _LONGEST_PHRASE:
                take(run, _PHRASE if len(run) > 1 else _WORD, factor, skill=False)
    chosen = []
    for keys, term in first.items():
        weight, repeated = weights[keys], min(counts[keys], 4) - 1
        # A phrase that stands once, and not among what is asked for or is to be done, is prose.
        least = _WORD * _REQUIRED if len(keys) == 1 else _PHRASE * _TASKS
        if not repeated and weight < least:
            continue
        chosen.append(msgspec.structs.replace(term, weight=round(weight * (1 + 0.25 * repeated), 3)))
    # The order of what weighs the same is the offer's: dict and sort keep it.
    return sorted(chosen, key=lambda term: -term.weight)[:MOST]


def _runs(line: list[Word], own_names: set[str]) -> list[tuple[list[Word], bool]]:
    """The skills in a line, and the words between small ones, each once."""
    found: list[tuple[list[Word], bool]] = []
    rest: list[Word] = []

    def flush() -> None:
        if rest:
            found.append((list(rest), False))
            rest.clear()

    place = 0
    while place < len(line):
        length = known_at(line, place)
        if length:
            flush()
            found.append((line[place : place + length], True))
            place += length
            continue
        word = line[place]
        apart = bool(rest) and word.at > rest[-1].at + len(rest[-1].text) + 1  # a comma or the like between
        idle = (
            is_stop(word)
            or word.number
            or len(word.folded) < 2
            or word.folded in _GENERIC
            or word.folded in own_names
            or (len(word.folded) < 4 and not word.text.isupper())
        )
        if apart or idle:
            flush()
        if not idle:
            rest.append(word)
        place += 1
    flush()
    return found


def known_at(line: list[Word], place: int) -> int:
    """How many words of `line` from `place` on are one known skill; 0: none is. The longest wins."""
    for length in range(min(LONGEST, len(line) - place), 0, -1):
        run = line[place : place + length]
        if tuple(word.folded for word in run) in SKILLS:
            if length == 1 and run[0].folded in AMBIGUOUS and not run[0].text[0].isupper():
                return 0
            return length
    return 0


def _is_name(word: Word, shouted: bool) -> bool:
    return word.capital and not shouted and any(c.isupper() for c in word.text[1:])
