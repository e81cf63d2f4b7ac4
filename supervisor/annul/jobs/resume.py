"""JSON Resume v1.0.0 as Structs: https://jsonresume.org/schema (schema.json of resume-schema 1.0.0).

Field names are the schema's. Dates are its ``iso8601`` strings: ``2019``, ``2019-03`` or ``2019-03-31``.
Nothing is required, as in the schema; empty values are left out when encoded.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

SCHEMA_URL = "https://raw.githubusercontent.com/jsonresume/resume-schema/v1.0.0/schema.json"

# The schema's own pattern, tightened to real months and days.
Date = Annotated[
    str, msgspec.Meta(pattern=r"^([1-2][0-9]{3}-[0-1][0-9]-[0-3][0-9]|[1-2][0-9]{3}-[0-1][0-9]|[1-2][0-9]{3})$")
]


class Part(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """A piece of a resume."""


class Location(Part):
    address: str = ""
    postal_code: str = ""
    city: str = ""
    country_code: str = ""  # ISO 3166-1 alpha-2
    region: str = ""


class Profile(Part):
    network: str = ""
    username: str = ""
    url: str = ""


class Basics(Part):
    name: str = ""
    label: str = ""
    image: str = ""
    email: str = ""
    phone: str = ""
    url: str = ""
    summary: str = ""
    location: Location | None = None
    profiles: list[Profile] = []


class Work(Part):
    name: str = ""
    location: str = ""
    description: str = ""
    position: str = ""
    url: str = ""
    start_date: Date | None = None
    end_date: Date | None = None  # none: until today
    summary: str = ""
    highlights: list[str] = []


class Volunteer(Part):
    organization: str = ""
    position: str = ""
    url: str = ""
    start_date: Date | None = None
    end_date: Date | None = None
    summary: str = ""
    highlights: list[str] = []


class Education(Part):
    institution: str = ""
    url: str = ""
    area: str = ""
    study_type: str = ""
    start_date: Date | None = None
    end_date: Date | None = None
    score: str = ""
    courses: list[str] = []


class Award(Part):
    title: str = ""
    date: Date | None = None
    awarder: str = ""
    summary: str = ""


class Certificate(Part):
    name: str = ""
    date: Date | None = None
    url: str = ""
    issuer: str = ""


class Publication(Part):
    name: str = ""
    publisher: str = ""
    release_date: Date | None = None
    url: str = ""
    summary: str = ""


class Skill(Part):
    name: str = ""
    level: str = ""
    keywords: list[str] = []


class Language(Part):
    language: str = ""
    fluency: str = ""


class Interest(Part):
    name: str = ""
    keywords: list[str] = []


class Reference(Part):
    name: str = ""
    reference: str = ""


class Project(Part):
    name: str = ""
    description: str = ""
    highlights: list[str] = []
    keywords: list[str] = []
    start_date: Date | None = None
    end_date: Date | None = None
    url: str = ""
    roles: list[str] = []
    entity: str = ""
    type: str = ""


class Meta(Part):
    canonical: str = ""
    version: str = ""
    last_modified: str = ""
    annul: dict[str, Any] = {}  # ours: `unplaced` text of the source that no field took


class Resume(Part):
    schema: str = msgspec.field(default="", name="$schema")
    basics: Basics = msgspec.field(default_factory=Basics)
    work: list[Work] = []
    volunteer: list[Volunteer] = []
    education: list[Education] = []
    awards: list[Award] = []
    certificates: list[Certificate] = []
    publications: list[Publication] = []
    skills: list[Skill] = []
    languages: list[Language] = []
    interests: list[Interest] = []
    references: list[Reference] = []
    projects: list[Project] = []
    meta: Meta | None = None
