"""Europass PDFs: the CV is read from the XML that they carry, without loss, and within limits."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
from pypdf import PdfReader, PdfWriter

from annul.jobs.import_pdf.europass import extract
from annul.jobs.import_pdf.europass.tree import NotReadable, parse, plain_lines
from annul.jobs.pdf.reader import read
from annul.jobs.resume import Resume
from pdf import CV_LINES, make_pdf

PASSPORT = """<?xml version="1.0" encoding="UTF-8"?>
<SkillsPassport xmlns="http://europass.cedefop.europa.eu/Europass" locale="en">
 <DocumentInfo><DocumentType>ECV</DocumentType></DocumentInfo>
 <LearnerInfo>
  <Identification>
   <PersonName><FirstName>Ilse</FirstName><Surname>Brandt-Óg</Surname></PersonName>
   <ContactInfo>
    <Address><Contact><AddressLine>Kaiweg 3</AddressLine><PostalCode>20457</PostalCode>
     <Municipality>Hamburg</Municipality><Country><Code>DE</Code><Label>Germany</Label></Country></Contact></Address>
    <Email><Contact>ilse@brandt.example.org</Contact></Email>
    <TelephoneList><Telephone><Contact>+49 40 1234567</Contact></Telephone>
     <Telephone><Contact>+49 171 7654321</Contact></Telephone></TelephoneList>
    <WebsiteList><Website><Contact>https://github.com/ilseb</Contact></Website></WebsiteList>
   </ContactInfo>
   <Demographics><NationalityList><Nationality><Code>DE</Code><Label>German</Label></Nationality></NationalityList>
   </Demographics>
  </Identification>
  <Headline><Type><Code>preferred_job</Code><Label>Preferred job</Label></Type>
   <Description><Label>Ship surveyor</Label></Description></Headline>
  <WorkExperienceList><WorkExperience>
   <Period><From year="2016" month="--03"/><Current>true</Current></Period>
   <Position><Label>Surveyor</Label></Position>
   <Activities>&lt;p&gt;Surveys of hulls.&lt;/p&gt;&lt;ul&gt;&lt;li&gt;Reports &amp;amp; drawings&lt;/li&gt;&lt;li&gt;
    Two trainees&lt;/li&gt;&lt;/ul&gt;</Activities>
   <Employer><Name>Nordklasse GmbH</Name><ContactInfo><Address><Contact><Municipality>Kiel</Municipality></Contact>
    </Address></ContactInfo></Employer></WorkExperience></WorkExperienceList>
  <EducationList><Education><Period><From year="2008"/><To year="2013" month="--06" day="---15"/></Period>
   <Title>M.Sc. Naval Architecture</Title><Organisation><Name>TU Hamburg</Name></Organisation>
   <Level><Code>7</Code><Label>EQF level 7</Label></Level></Education></EducationList>
  <Skills>
   <Linguistic>
    <MotherTongueList><MotherTongue><Description><Code>de</Code><Label>German</Label></Description></MotherTongue>
    </MotherTongueList>
    <ForeignLanguageList><ForeignLanguage><Description><Code>en</Code><Label>English</Label></Description>
     <ProficiencyLevel><Listening>C2</Listening><Reading>C2</Reading><Writing>C1</Writing></ProficiencyLevel>
    </ForeignLanguage></ForeignLanguageList>
   </Linguistic>
   <Computer><Description>AutoCAD</Description></Computer>
   <Driving><Description><Licence>B</Licence></Description></Driving>
  </Skills>
  <AchievementList><Achievement><Title><Code>memberships</Code><Label>Memberships</Label></Title>
   <Description>Harbour rowing club</Description></Achievement></AchievementList>
 </LearnerInfo>
</SkillsPassport>"""

CANDIDATE = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Candidate xmlns="http://www.europass.eu/1.0" xmlns:oa="http://www.openapplications.org/oagis/9"
  xmlns:eures="http://www.europass_eures.eu/1.0" xmlns:hr="http://www.hr-xml.org/3">
 <hr:DocumentID schemeID="T-1"/>
 <CandidatePerson>
  <PersonName><oa:GivenName>Marta</oa:GivenName><hr:FamilyName>Nogueira Paz</hr:FamilyName></PersonName>
  <Communication><ChannelCode>Email</ChannelCode><oa:URI>marta@paz.example.org</oa:URI></Communication>
  <Communication><ChannelCode>Telephone</ChannelCode><UseCode>mobile</UseCode><CountryDialing>351</CountryDialing>
   <oa:DialNumber>912345678</oa:DialNumber></Communication>
  <Communication><UseCode>home</UseCode><Address type="home"><oa:AddressLine>Rua do Cais 8</oa:AddressLine>
   <oa:CityName>Porto</oa:CityName><CountryCode>pt</CountryCode><oa:PostalCode>4050</oa:PostalCode></Address>
  </Communication>
  <NationalityCode>pt</NationalityCode>
  <PrimaryLanguageCode name="NORMAL">por</PrimaryLanguageCode>
 </CandidatePerson>
 <CandidateProfile languageCode="en">
  <hr:ExecutiveSummary>Marine biologist.</hr:ExecutiveSummary>
  <EmploymentHistory><EmployerHistory><hr:OrganizationName>Instituto do Mar</hr:OrganizationName>
   <OrganizationContact><Communication><Address><oa:CityName>Porto</oa:CityName><CountryCode>pt</CountryCode></Address>
   </Communication></OrganizationContact>
   <PositionHistory><PositionTitle typeCode="FREETEXT">Research assistant</PositionTitle>
    <eures:EmploymentPeriod><eures:StartDate><hr:FormattedDateTime>2021-09-01</hr:FormattedDateTime></eures:StartDate>
     <hr:CurrentIndicator>true</hr:CurrentIndicator></eures:EmploymentPeriod>
    <oa:Description>&lt;ul&gt;&lt;li&gt;Counts cod&lt;/li&gt;&lt;/ul&gt;</oa:Description>
    <City>Porto</City><Country>pt</Country></PositionHistory></EmployerHistory></EmploymentHistory>
  <EducationHistory><EducationOrganizationAttendance><hr:OrganizationName>Universidade do Porto</hr:OrganizationName>
   <AttendancePeriod><StartDate><hr:FormattedDateTime>2016-09</hr:FormattedDateTime></StartDate>
    <EndDate><hr:FormattedDateTime>2021-07</hr:FormattedDateTime></EndDate><Ongoing>false</Ongoing></AttendancePeriod>
   <EducationDegree><hr:DegreeName>MSc in Marine Biology</hr:DegreeName></EducationDegree>
   </EducationOrganizationAttendance></EducationHistory>
  <eures:Licenses><eures:License><hr:LicenseTypeCode>B</hr:LicenseTypeCode></eures:License></eures:Licenses>
  <PersonQualifications><PersonCompetency><CompetencyID schemeName="NORMAL">eng</CompetencyID>
   <hr:TaxonomyID>language</hr:TaxonomyID>
   <eures:CompetencyDimension><hr:CompetencyDimensionTypeCode>CEF-Understanding-Listening</hr:CompetencyDimensionTypeCode>
    <eures:Score><hr:ScoreText>C1</hr:ScoreText></eures:Score></eures:CompetencyDimension></PersonCompetency>
  </PersonQualifications>
  <Skills><SkillsGroup><Title>Field work</Title><PersonCompetency><hr:CompetencyName>Diving</hr:CompetencyName>
   </PersonCompetency></SkillsGroup></Skills>
  <NetworksAndMemberships><NetworkAndMembership><Title>Sea Watch</Title></NetworkAndMembership></NetworksAndMemberships>
  <HobbiesAndInterests><HobbyOrInterest><Title>Surfing</Title></HobbyOrInterest></HobbiesAndInterests>
 </CandidateProfile>
</Candidate>"""


def carrying(tmp_path: Path, *files: tuple[str, bytes]) -> Path:
    """A PDF with the text of a CV that carries these files."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(make_pdf([CV_LINES]))))
    for name, data in files:
        writer.add_attachment(name, data)
    path = tmp_path / "cv.pdf"
    with path.open("wb") as file:
        writer.write(file)
    return path


def imported(path: Path) -> tuple[Resume | None, str]:
    document = read(path, max_pages=5, max_bytes=1_000_000, max_chars=100_000, progress=lambda _fraction, _stage: None)
    extraction, why = extract(path, document)
    if extraction is None:
        return None, why
    return msgspec.json.decode(msgspec.json.encode(extraction.cv), type=Resume), why


def test_a_skills_passport(tmp_path: Path) -> None:
    """The XML of 2012 to 2020 is read instead of the text."""
    cv, why = imported(carrying(tmp_path, ("attachment.xml", PASSPORT.encode())))
    assert cv is not None
    assert why == ""
    assert (cv.basics.name, cv.basics.label, cv.basics.email) == (
        "Ilse Brandt-Óg", "Ship surveyor", "ilse@brandt.example.org",
    )  # fmt: skip
    assert cv.basics.location is not None
    assert (cv.basics.location.city, cv.basics.location.country_code) == ("Hamburg", "DE")
    (post,) = cv.work
    assert (post.name, post.position, post.start_date, post.end_date) == (
        "Nordklasse GmbH", "Surveyor", "2016-03", None,
    )  # fmt: skip
    assert (post.summary, post.highlights) == ("Surveys of hulls.", ["Reports & drawings", "Two trainees"])
    (degree,) = cv.education
    assert (degree.institution, degree.start_date, degree.end_date) == ("TU Hamburg", "2008", "2013-06-15")
    assert [(one.language, one.fluency) for one in cv.languages] == [
        ("German", "Mother tongue"), ("English", "listening C2, reading C2, writing C1"),
    ]  # fmt: skip


def test_a_candidate(tmp_path: Path) -> None:
    """The XML that europa.eu attaches since 2020 is read instead of the text."""
    cv, _ = imported(carrying(tmp_path, ("data.xml", CANDIDATE.encode())))
    assert cv is not None
    assert (cv.basics.name, cv.basics.phone) == ("Marta Nogueira Paz", "+351 912345678")
    (post,) = cv.work
    assert (post.name, post.position, post.start_date, post.end_date, post.highlights) == (
        "Instituto do Mar", "Research assistant", "2021-09-01", None, ["Counts cod"],
    )  # fmt: skip
    (degree,) = cv.education
    assert (degree.study_type, degree.area, degree.end_date) == ("MSc", "Marine Biology", "2021-07")
    assert [(one.language, one.fluency) for one in cv.languages] == [("Portuguese", "Mother tongue"), ("English", "C1")]
    assert cv.skills[0].keywords == ["Diving"]


@pytest.mark.parametrize("xml", [PASSPORT, CANDIDATE], ids=["passport", "candidate"])
def test_nothing_is_lost(tmp_path: Path, xml: str) -> None:
    """Each text of the XML is in the CV or kept beside it: no field exists for a second phone or a licence."""
    cv, _ = imported(carrying(tmp_path, ("cv.xml", xml.encode())))
    assert cv is not None
    held = msgspec.json.encode(cv).decode()
    bare = re.sub(r"<DocumentInfo>.*</DocumentInfo>|<Code>[^<]*</Code>|&lt;[^&]*&gt;", " ", xml)
    told = re.sub(r"<[^>]+>", "\n", bare)
    codes = {"true", "false", "Telephone", "Email", "mobile", "home", "NORMAL", "por", "eng", "pt", "language", "351"}
    codes |= {"CEF-Understanding-Listening", "Germany"}  # the country is held by its code
    for text in (" ".join(line.split()) for line in told.splitlines()):
        for word in text.replace("&amp;amp;", "&").split():
            assert word in codes or word in held, f"{word!r} of {text!r} is nowhere"


def test_a_pdf_without_such_an_xml(tmp_path: Path) -> None:
    """Other attachments are passed over."""
    assert imported(carrying(tmp_path)) == (None, "")
    assert imported(carrying(tmp_path, ("note.xml", b"<note>hello</note>"), ("a.bin", b"\x00\x01"))) == (None, "")


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><SkillsPassport>&b;</SkillsPassport>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><SkillsPassport>&a;</SkillsPassport>',
        b"<a>" * 5_000 + b"</a>" * 5_000,
        b"<SkillsPassport><LearnerInfo>",
        b"\xff\xfe<",
    ],
    ids=["entities", "external-entity", "deep", "cut-off", "no-xml"],
)
def test_hostile_xml_is_refused(tmp_path: Path, data: bytes) -> None:
    """No entity is expanded and no file is read; the report says why the XML was not used."""
    with pytest.raises(NotReadable):
        parse(data)
    cv, why = imported(carrying(tmp_path, ("cv.xml", data)))
    assert cv is None
    assert "was not used" in why or not data.startswith(b"<")


def test_rich_text() -> None:
    """Descriptions are HTML: their lines, and which are list items."""
    lines, items = plain_lines("<p>One <b>bold</b></p><ul><li><p>a</p></li><li>b<br>c</li></ul>tail")
    assert lines == ["One bold", "a", "b", "c", "tail"]
    assert items == ["a", "b", "c"]
    assert plain_lines("x &amp; y\n\nz") == (["x & y", "z"], [])
