"""`SkillsPassport`, the XML of Europass from 2012 to 2020 (schema 3.x), to JSON Resume."""

from __future__ import annotations

from annul.jobs.import_pdf.europass.codes import language_name, spoken
from annul.jobs.import_pdf.europass.tree import Node
from annul.jobs.import_pdf.offline.degrees import degree_parts
from annul.jobs.import_pdf.offline.links import profile_of, with_scheme
from annul.jobs.resume import (
    Award,
    Basics,
    Certificate,
    Education,
    Language,
    Location,
    Profile,
    Project,
    Publication,
    Reference,
    Resume,
    Skill,
    Work,
)

_SIDES = ("Listening", "Reading", "SpokenInteraction", "SpokenProduction", "Writing")
_SKILLS = ("Communication", "Organisational", "JobRelated", "Computer", "Other")


def resume(root: Node) -> Resume:
    """The CV of a `SkillsPassport`."""
    cv = Resume()
    learner = root.first("LearnerInfo")
    if learner is None:
        return cv
    cv.basics = _basics(learner)
    cv.work = [_post(node) for node in learner.all("WorkExperienceList", "WorkExperience")]
    cv.education = [_degree(node) for node in learner.all("EducationList", "Education")]
    for node in learner.all("Skills", "Linguistic", "MotherTongueList", "MotherTongue"):
        cv.languages.append(Language(language=_label(node, "Description"), fluency="Mother tongue"))
    for node in learner.all("Skills", "Linguistic", "ForeignLanguageList", "ForeignLanguage"):
        levels = {side: node.value("ProficiencyLevel", side) for side in _SIDES}
        cv.languages.append(Language(language=_label(node, "Description"), fluency=spoken(levels)))
        cv.certificates += [_certificate(one) for one in node.all("VerifiedBy", "Certificate")]
    for kind in _SKILLS:
        for node in learner.all("Skills", kind):
            if lines := node.lines("Description"):
                cv.skills.append(Skill(name=kind, keywords=lines))
            cv.certificates += [_certificate(one) for one in node.all("VerifiedBy", "Certificate")]
    for node in learner.all("AchievementList", "Achievement"):
        _achievement(cv, node)
    return cv


def _basics(learner: Node) -> Basics:
    person = learner.first("Identification") or learner
    contact = person.first("ContactInfo") or person
    parts = (
        _label(person, "PersonName", "Title"),
        person.value("PersonName", "FirstName"),
        person.value("PersonName", "Surname"),
    )
    basics = Basics(
        name=" ".join(part for part in parts if part),
        label=_label(learner, "Headline", "Description"),
        email=contact.value("Email", "Contact"),
        location=_location(contact.first("Address", "Contact")),
    )
    phones = contact.all("TelephoneList", "Telephone")
    if phones:
        basics.phone = phones[0].value("Contact")
    for node in contact.all("WebsiteList", "Website"):
        url = node.value("Contact")
        if profile := profile_of(url):
            basics.profiles.append(profile)
        elif url and not basics.url:
            basics.url = with_scheme(url)
        elif url:
            basics.profiles.append(Profile(url=with_scheme(url)))
    for node in contact.all("InstantMessagingList", "InstantMessaging"):
        basics.profiles.append(Profile(network=_label(node, "Use"), username=node.value("Contact")))
    return basics


def _label(node: Node, *path: str) -> str:
    """A value that may be a label beside its code, the code alone, or a text."""
    found = node.first(*path)
    if found is None:
        return ""
    return found.value("Label") or language_name(found.value("Code")) or found.value()


def _location(address: Node | None) -> Location | None:
    if address is None:
        return None
    lines = [line for line in (address.value("AddressLine"), address.value("AddressLine2")) if line]
    code = address.value("Country", "Code")
    address.value("Country", "Label")
    return Location(
        address=", ".join(lines), postal_code=address.value("PostalCode"), city=address.value("Municipality"),
        country_code=code.upper() if len(code) == 2 else "",
    )  # fmt: skip


def _day(node: Node | None) -> str | None:
    """A date of attributes: ``year="2012" month="--09" day="---01"``."""
    if node is None:
        return None
    parts = [node.attributes.get(name, "").lstrip("-") for name in ("year", "month", "day")]
    text = ""
    for part, length in zip(parts, (4, 2, 2), strict=True):
        if not part.isdigit():
            break
        text += ("-" if text else "") + part.zfill(length)
    return Node("", {}, text).date() if text else None


def _period(node: Node) -> tuple[str | None, str | None]:
    node.value("Period", "Current")
    return _day(node.first("Period", "From")), _day(node.first("Period", "To"))


def _post(node: Node) -> Work:
    start, end = _period(node)
    text, items = node.prose("Activities")
    where = _location(node.first("Employer", "ContactInfo", "Address", "Contact"))
    url = node.value("Employer", "ContactInfo", "Website", "Contact")
    return Work(
        name=node.value("Employer", "Name"), position=_label(node, "Position"), start_date=start, end_date=end,
        summary=text, highlights=items, url=with_scheme(url) if url else "",
        location=", ".join(part for part in (where.city, where.country_code) if part) if where else "",
        description=_label(node, "Employer", "Sector"),
    )  # fmt: skip


def _degree(node: Node) -> Education:
    start, end = _period(node)
    study, area = degree_parts(node.value("Title"))
    url = node.value("Organisation", "ContactInfo", "Website", "Contact")
    courses = node.lines("Activities") or node.lines("Skills")
    return Education(
        institution=node.value("Organisation", "Name"), study_type=study, area=area or _label(node, "Field"),
        start_date=start, end_date=end, url=with_scheme(url) if url else "", courses=courses,
    )  # fmt: skip


def _certificate(node: Node) -> Certificate:
    return Certificate(name=node.value("Title"), issuer=node.value("AwardingBody"), date=_day(node.first("Date")))


def _achievement(cv: Resume, node: Node) -> None:
    kind = node.value("Title", "Code")
    lines = node.lines("Description")
    if kind == "publications":
        cv.publications += [Publication(name=line) for line in lines]
    elif kind == "projects":
        cv.projects += [Project(name=line) for line in lines]
    elif kind == "honors_awards":
        cv.awards += [Award(title=line) for line in lines]
    elif kind in ("certifications", "courses"):
        cv.certificates += [Certificate(name=line) for line in lines]
    elif kind == "references":
        cv.references += [Reference(reference=line) for line in lines]
    else:
        description = node.first("Description")
        if description is not None:
            description.used = False  # kept as unplaced, under its title
            description.text = "\n".join(lines)
