"""`Candidate`, the XML of Europass since 2020 (HR-XML and EURES), to JSON Resume.

Elements: https://github.com/europass-unofficial/europass-schema-docs
"""

from __future__ import annotations

from annul.jobs.import_pdf.europass.codes import language_name, spoken
from annul.jobs.import_pdf.europass.tree import Node
from annul.jobs.import_pdf.offline.degrees import degree_parts
from annul.jobs.import_pdf.offline.links import profile_of, with_scheme
from annul.jobs.resume import (
    Basics,
    Certificate,
    Education,
    Interest,
    Language,
    Location,
    Profile,
    Project,
    Publication,
    Reference,
    Resume,
    Skill,
    Volunteer,
    Work,
)


def resume(root: Node) -> Resume:
    """The CV of a `Candidate`, in the first of its languages."""
    cv = Resume(basics=_basics(root.first("CandidatePerson") or root))
    profile = root.first("CandidateProfile")
    for person in root.all("CandidatePerson"):
        for code in person.all("PrimaryLanguageCode"):
            code.used = True
            cv.languages.append(Language(language=language_name(code.text), fluency="Mother tongue"))
    if profile is None:
        return cv
    cv.basics.summary = "\n".join(profile.lines("ExecutiveSummary"))
    cv.work = [post for employer in profile.all("EmploymentHistory", "EmployerHistory") for post in _posts(employer)]
    cv.education = [_degree(node) for node in profile.all("EducationHistory", "EducationOrganizationAttendance")]
    for node in profile.all("PersonQualifications", "PersonCompetency"):
        _competency(cv, node)
    for group in profile.all("Skills", "SkillsGroup"):
        names = [name for node in group.all("PersonCompetency") if (name := _skill(node))]
        cv.skills.append(Skill(name=group.value("Title"), keywords=names))
    cv.skills += [Skill(name=name) for node in profile.all("Skills", "PersonCompetency") if (name := _skill(node))]
    cv.certificates = [
        Certificate(
            name=node.value("CertificationName"),
            issuer=node.value("IssuingAuthority") or node.value("IssuingAuthortity", "Name"),
            date=node.date("CertificationDate", "FormattedDateTime")
            or node.date("FirstIssuedDate", "FormattedDateTime"),
        )
        for node in profile.all("Certifications", "Certification")
    ]
    cv.certificates += [
        Certificate(name=node.value("Title"), date=node.date("Date", "FormattedDateTime"))
        for node in profile.all("CourseCertifications", "CourseCertification")
    ]
    for node in profile.all("Projects", "Project"):
        start, end = _period(node)
        text, items = node.prose("Description")
        cv.projects.append(
            Project(name=node.value("Title"), description=text, highlights=items, start_date=start, end_date=end)
        )
    for node in profile.all("VoluntaryWorks", "VoluntaryWork"):
        start, end = _period(node)
        text, items = node.prose("Description")
        cv.volunteer.append(
            Volunteer(
                position=node.value("Title"), organization=node.value("Organization"), summary=text, highlights=items,
                start_date=start, end_date=end,
            )
        )  # fmt: skip
    cv.publications = [
        Publication(
            name=node.value("Title") or node.value("FormattedPublicationDescription"),
            publisher=node.value("Publisher"),
            release_date=node.date("Year") or node.date("PublicationDate", "FormattedDateTime"),
            summary="\n".join(node.lines("Description")),
        )
        for node in profile.all("PublicationHistory", "Publication")
    ]
    cv.interests = [
        Interest(name=node.value("Title"), keywords=_other(node.lines("Description"), node.value("Title")))
        for node in profile.all("HobbiesAndInterests", "HobbyOrInterest")
    ]
    cv.references = [
        Reference(name=_name(node), reference=node.value("Description"))
        for node in profile.all("EmploymentReferences", "EmploymentReference")
    ]
    return cv


def _basics(person: Node) -> Basics:
    basics = Basics(name=_name(person))
    for node in person.all("Communication"):
        kind = node.value("ChannelCode")
        address = node.first("Address")
        if address is not None:
            use = node.first("UseCode")
            if use is not None:
                use.used = True
            basics.location = basics.location or _location(address)
            continue
        uri = node.value("URI")
        number = node.value("DialNumber")
        if number:
            country = node.value("CountryDialing")
            text = f"+{country.lstrip('+')} {number}" if country else number
            basics.phone = basics.phone or text
        if kind == "Email":
            basics.email = basics.email or uri
        elif uri and (profile := profile_of(uri)):
            basics.profiles.append(profile)
        elif kind == "Web" and uri and not basics.url:
            basics.url = with_scheme(uri)
        elif uri:
            basics.profiles.append(Profile(network=node.value("UseCode") or kind, username=uri))
        for extra in node.all("UseCode"):
            extra.used = True
    return basics


def _name(node: Node) -> str:
    return " ".join(
        part for part in (node.value("PersonName", "GivenName"), node.value("PersonName", "FamilyName")) if part
    )


def _location(address: Node) -> Location:
    for line in address.all("AddressLine"):
        line.used = True
    return Location(
        address=", ".join(line.text for line in address.all("AddressLine") if line.text),
        postal_code=address.value("PostalCode"),
        city=address.value("CityName"),
        country_code=address.value("CountryCode").upper(),
    )


def _posts(employer: Node) -> list[Work]:
    name = employer.value("OrganizationName")
    address = employer.first("OrganizationContact", "Communication", "Address")
    where = _location(address) if address is not None else Location()
    url = next(
        (node.value("URI") for node in employer.all("OrganizationContact", "Communication") if node.all("URI")), ""
    )
    posts = []
    for node in employer.all("PositionHistory"):
        start, end = _period(node)
        text, items = node.prose("Description")
        city, country = node.value("City") or where.city, node.value("Country").upper() or where.country_code
        posts.append(
            Work(
                name=name, position=node.value("PositionTitle"), url=with_scheme(url) if url else "", summary=text,
                location=", ".join(part for part in (city, country) if part), highlights=items, start_date=start,
                end_date=end,
            )
        )  # fmt: skip
    return posts


def _period(node: Node) -> tuple[str | None, str | None]:
    for name in ("EmploymentPeriod", "AttendancePeriod", "Period"):
        if period := node.first(name):
            for flag in ("CurrentIndicator", "Ongoing"):
                period.value(flag)
            return period.date("StartDate", "FormattedDateTime"), period.date("EndDate", "FormattedDateTime")
    return node.date("StartDate", "FormattedDateTime"), node.date("EndDate", "FormattedDateTime")


def _degree(node: Node) -> Education:
    start, end = _period(node)
    title = node.value("EducationDegree", "DegreeName") or node.value("ProgramName")
    if node.value("ProgramName") == title:
        node.value("EducationDegree", "DegreeName")
    study, area = degree_parts(title)
    subject = node.value("EducationDegree", "FieldOfStudy") or area
    covered = node.lines("EducationDegree", "OccupationalSkillsCovered")
    url = next((one.value("URI") for one in node.all("OrganizationContact", "Communication") if one.all("URI")), "")
    return Education(
        institution=node.value("OrganizationName"), study_type=study, area=subject, start_date=start, end_date=end,
        url=with_scheme(url) if url else "", courses=covered,
        score=node.value("EducationDegree", "FinalGrade", "ScoreText"),
    )  # fmt: skip


def _competency(cv: Resume, node: Node) -> None:
    if node.value("TaxonomyID").casefold() == "language":
        scores = {
            one.value("CompetencyDimensionTypeCode"): one.value("Score", "ScoreText")
            for one in node.all("CompetencyDimension")
        }
        cv.languages.append(Language(language=language_name(node.value("CompetencyID")), fluency=spoken(scores)))
    elif name := _skill(node):
        cv.skills.append(Skill(name=name))


def _skill(node: Node) -> str:
    node.value("TaxonomyID")
    return node.value("CompetencyName")


def _other(lines: list[str], title: str) -> list[str]:
    return [line for line in lines if line != title]
