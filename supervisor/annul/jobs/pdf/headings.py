"""The words that head the sections of a CV, in English, French, German, Spanish, Italian, Portuguese and Dutch.

Some of Polish and the Scandinavian languages. A heading that is not listed may still be told by its one telling word.
"""

from __future__ import annotations

import re
import unicodedata

# By the field of JSON Resume that the section fills; "summary" and "contact" are of `basics`; "other" is a section
# that no field takes. Written without accents, in lower case.
_WORDS = {
    "work": """werkervaring|loopbaan|ervaring|arbeidsverleden|stages en werkervaring|arbetslivserfarenhet|erfarenhet|
        doswiadczenie zawodowe|doswiadczenie|erhvervserfaring|arbejdserfaring|arbeidserfaring|historico profissional|
        atuacao profissional|percorso professionale|carriera|experience de travail|parcours pro|historial laboral|
        historial profesional|academic appointments|military experience|teaching|experience|experiences|
        work experience|professional experience|employment|employment history|work history|career|career history|
        work|relevant experience|industry experience|research experience|teaching experience|academic experience|
        positions|appointments|professional background|job history|internships|internship|professional experiences|
        selected experience|vocational|clinical experience|experience professionnelle|experiences professionnelles|
        parcours professionnel|parcours|emplois|emploi|stages|stage|carriere|experiences significatives|
        experience de recherche|postes occupes|berufserfahrung|beruflicher werdegang|werdegang|praktika|
        praxiserfahrung|praktische erfahrung|beruf|arbeitserfahrung|berufspraxis|berufliche erfahrung|erfahrung|
        berufliche stationen|experiencia|experiencia laboral|experiencia profesional|trayectoria profesional|empleo|
        esperienza|esperienze|esperienza professionale|esperienze professionali|esperienza lavorativa|
        experiencia profissional""",
    "education": """opleiding|opleidingen|onderwijs|studie|opleidingen en cursussen|utbildning|wyksztalcenie|
        edukacja|uddannelse|utdanning|escolaridade|titoli di studio|studi|percorso di studi|formazione accademica|
        schule|schulausbildung|aus und weiterbildung|bildungsabschlusse|education and qualifications|
        education and certifications|onderwijs en opleiding|educacion y formacion|education et formation|education|
        academic background|academic history|academic qualifications|studies|education and training|
        education background|educational background|academics|academic education|degrees|qualifications academic|
        schooling|training and education|university education|academic training|formation|formations|
        formation academique|formations academiques|parcours academique|etudes|diplomes|diplome|scolarite|
        parcours scolaire|cursus|formation initiale|etudes et formations|parcours universitaire|
        diplomes et formations|formations et diplomes|formation et diplomes|cursus universitaire|cursus scolaire|
        ausbildung|studium|bildung|bildungsweg|schulbildung|akademische ausbildung|bildungsgang|
        akademischer werdegang|ausbildung und studium|studium und ausbildung|hochschulstudium|educacion|formacion|
        formacion academica|estudios|titulacion|istruzione|formazione|istruzione e formazione|educacao|formacao|
        formacao academica""",
    "skills": """vaardigheden|competenties|kennis|computervaardigheden|kompetenser|fardigheter|umiejetnosci|
        kompetencer|kompetanse|competencias|conhecimentos|habilidades e competencias|top skills|personal skills|
        job related skills|communication skills|organisational skills|digital competence|it competence|
        principales competences|competenze digitali|competencias digitales|competencias digitais|
        digitale vaardigheden|digitale kompetenzen|competences numeriques|aptitudes principales|
        principais competencias|top kenntnisse|competenze personali|competenze professionali|
        competences personnelles|competencias personales|competencias profesionales|attitudes|metiers|skills|tech|
        techs|fields|fields of expertise|technical skills|skill|core skills|key skills|technologies|
        technical expertise|expertise|competencies|core competencies|competences|programming|programming skills|
        computer skills|tools|programming languages|technical proficiencies|technology|technical knowledge|
        areas of expertise|it skills|soft skills|hard skills|strengths|key strengths|abilities|skills and tools|
        technical|proficiencies|skills and abilities|technical competencies|software|skills summary|
        professional skills|knowledge|technical strengths|featured skills|my skills|skills and technologies|
        technologies and tools|tech stack|skills and strengths|other skills|additional skills|skill set|
        digital skills|stack|competence|competences techniques|competences informatiques|competences cles|
        informatique|savoir faire|savoir etre|outils|langages|atouts|qualites|aptitudes|technologies maitrisees|
        domaines de competence|competences professionnelles|points forts|logiciels|connaissances|
        competences et outils|langages et outils|outils et technologies|kenntnisse|fahigkeiten|fertigkeiten|
        it kenntnisse|edv kenntnisse|kompetenzen|fachkenntnisse|edv|technische kenntnisse|software kenntnisse|
        besondere kenntnisse|technische fahigkeiten|starken|habilidades|conocimientos|conocimientos tecnicos|
        aptitudes tecnicas|tecnologias|habilidades tecnicas|informatica|conocimientos informaticos|herramientas|
        competenze|capacita e competenze|competenze tecniche|competenze informatiche|conoscenze""",
    "languages": """mother tongue s|other language s|langue s maternelle s|autre s langue s|talen|talenkennis|
        taalvaardigheden|sprak|jezyki|jezyki obce|sprog|other languages|mother tongues|mother tongue|lingua madre|
        altre lingue|langue maternelle|langues maternelles|autres langues|lengua materna|otros idiomas|muttersprache|
        weitere sprachen|moedertaal|andere talen|competencias linguisticas|competenze linguistiche|
        conocimiento de idiomas|conhecimento de idiomas|languages|language|language skills|spoken languages|
        foreign languages|langues|langue|langues etrangeres|langues vivantes|competences linguistiques|
        langues parlees|sprachen|sprachkenntnisse|fremdsprachen|sprache|idiomas|idioma|lenguas|lingue|
        lingue straniere|linguas""",
    "projects": """projecten|projekty|prosjekter|projetos pessoais|projects|project|personal projects|
        selected projects|side projects|key projects|academic projects|open source|open source projects|
        open source contributions|recent projects|notable projects|portfolio|research projects|project experience|
        software projects|software|university projects|main projects|projets|projet|projets personnels|realisations|
        projets academiques|projets realises|travaux|principaux projets|projets open source|projets informatiques|
        projets universitaires|projekte|projekt|projekterfahrung|eigene projekte|personliche projekte|proyectos|
        proyectos personales|progetti|progetti personali|projetos""",
    "certificates": """certificaten|certificaten en cursussen|certyfikaty|certifikat|kurser|permis et certificats|
        certificacoes e cursos|certifications|certification|certificates|certificate|licenses|licences|
        professional certifications|courses and certifications|licenses and certifications|accreditations|
        certificats|certifications et formations|habilitations|attestations|permis|certifications professionnelles|
        zertifikate|zertifizierungen|zertifikat|certificaciones|certificados|certificazioni|certificati|certificacoes""",
    "awards": """prijzen|priser|premios e distincoes|scholarships and honors|honours and prizes|awards|honors|
        honours|honors and awards|awards and honors|achievements|awards and achievements|scholarships|prizes|
        selected honors|recognition|fellowships|distinctions|accomplishments|honours and awards|
        awards and recognition|grants|scholarships and awards|honor|award|most proud of|key achievements|
        awards and scholarships|grants and awards|prix|recompenses|distinctions honorifiques|bourses|
        prix et distinctions|prix et recompenses|auszeichnungen|preise|stipendien|ehrungen|preise und auszeichnungen|
        premios|becas|reconocimientos|logros|premi|riconoscimenti|premios y becas|premios y reconocimientos""",
    "publications": """publicaties|publikacje|publikationer|articoli|publications|selected publications|papers|
        articles|journal articles|conference papers|books|publication|research publications|patents and publications|
        writings|writing|publications et communications|communications|publikationen|veroffentlichungen|
        publicaciones|pubblicazioni|publicacoes""",
    "volunteer": """vrijwilligerswerk|wolontariat|frivilligt arbete|frivilligt arbejde|trabalho voluntario|volunteer|
        volunteering|volunteer experience|volunteer work|community service|volunteer activities|
        community involvement|voluntary work|social engagement|volunteering experience|community|volunteer activity|
        extracurricular activity|extracurricular activities|extra curricular activities|leadership and service|
        volunteering and community|service|leadership|activities|leadership experience|student activities|benevolat|
        engagement associatif|vie associative|engagements|associatif|experiences associatives|
        engagements associatifs|activites extra professionnelles|engagement|activites associatives|ehrenamt|
        ehrenamtliche tatigkeiten|ehrenamtliches engagement|soziales engagement|freiwilligenarbeit|voluntariado|
        voluntariados|volontariato|attivita di volontariato""",
    "interests": """hobby s|hobbies e interesses|interesses e hobbies|vrije tijd|zainteresowania|intressen|
        hobby e interessi|interessi e hobby|centri di interesse|centros de interes|tempo libero|interests|hobbies|
        hobby|hobbies and interests|interests and hobbies|personal interests|interest|research interests|passions|
        other interests|activities and interests|centres d interet|centre d interet|loisirs|centres d interets|
        interets|passe temps|loisirs et centres d interet|interessen|hobbys|freizeit|interessen und hobbys|
        hobbys und interessen|intereses|aficiones|interessi|passioni|interesses""",
    "references": """referenties|referencje|referenser|referencias pessoais|referencias profesionales|references|
        referees|reference|recommendations|testimonials|recommandations|referenzen|referencias|referenze""",
    "summary": """profiel|over mij|persoonlijk profiel|samenvatting|om mig|podsumowanie|podsumowanie zawodowe|
        profil zawodowy|objetivo profissional|obiettivo professionale|profilo professionale|profil personnel|
        presentazione|summary|profile|about|about me|objective|professional summary|career objective|career summary|
        executive summary|personal statement|personal profile|professional profile|bio|biography|introduction|
        who am i|statement|overview|career profile|summary of qualifications|about myself|mission|objectives|profil|
        a propos|a propos de moi|resume|presentation|objectif|profil professionnel|qui suis je|accroche|
        objectif professionnel|resume professionnel|kurzprofil|uber mich|zusammenfassung|ziel|berufsziel|zur person|
        personliches profil|perfil|resumen|sobre mi|objetivo|perfil profesional|perfil personal|extracto|
        acerca de mi|profilo|riassunto|sommario|chi sono|perfil profissional|resumo""",
    "contact": """persoonlijke gegevens|gegevens|contactgegevens|kontaktuppgifter|dane osobowe|dane kontaktowe|
        dati anagrafici|dados pessoais|dados de contato|personalia|zur person und kontakt|informations de contact|
        contact|contact information|contact details|contacts|personal information|personal details|personal data|
        contact me|details|info|personal info|get in touch|find me online|links|profiles|social|social media|online|
        social networks|social links|websites|personal|coordonnees|informations personnelles|informations|
        contactez moi|me contacter|etat civil|reseaux sociaux|reseaux|liens|profils|kontakt|personliche daten|
        personliche angaben|kontaktdaten|anschrift|daten|soziale netzwerke|netzwerke|contacto|datos personales|
        datos de contacto|informacion personal|redes sociales|redes|enlaces|contatti|informazioni personali|
        dati personali|contato""",
    "other": """cursussen|militaire dienst|rijbewijs|patente|patenti|patentes|driving licence|driving license|
        fuhrerschein|prawo jazdy|korkort|carnet de conducir|miscellaneous|additional information|other|others|
        memberships|patents|presentations|talks|invited talks|conferences|teaching|courses|coursework|
        relevant coursework|training|trainings|professional development|professional memberships|program committees|
        committees|affiliations|additional|extracurricular|master thesis|thesis|masters thesis|phd thesis|
        dissertation|research|academic service|exhibitions|media|press|hobbies and miscellaneous|philosophy|quote|
        military service|supervision|mentoring|divers|autres|autre|informations complementaires|
        conferences et communications|formation continue|formations complementaires|these|memoire|enseignement|
        enseignements|sonstiges|weiterbildung|weiterbildungen|fortbildungen|verschiedenes|weitere|abschlussarbeit|
        vortrage|otros|otros datos|cursos|informacion adicional|formacion complementaria|tesis|tesis doctoral|altro""",
}  # fmt: skip

KNOWN = {
    re.sub(r"\s+", " ", word).strip(): field for field, words in reversed(_WORDS.items()) for word in words.split("|")
}
# Words by which a longer heading is told: "Schulische und berufliche Ausbildung", "Competenze digitali".
_TELLING = {
    "work": "experience|experiences|employment|werdegang|berufserfahrung|erfahrung|experiencia|experiencias|esperienza|"
    "esperienze|werkervaring|loopbaan|internships|praktika|laboral|laborales",
    "education": "education|ausbildung|studium|formation|formations|diplomes|etudes|educacion|formacion|estudios|"
    "istruzione|formazione|educacao|formacao|opleiding|opleidingen|academic background|scolarite",
    "skills": "skills|competences|competencies|kenntnisse|fahigkeiten|kompetenzen|competencias|competenze|habilidades|"
    "vaardigheden|technologies|expertise|aptitudes|conhecimentos|conocimientos",
    "languages": "languages|langues|sprachen|sprachkenntnisse|idiomas|lingue|talen",
    "projects": "projects|projets|projekte|proyectos|progetti|projetos|projecten",
    "certificates": "certifications|certificates|zertifikate|certificats|certificaciones|certificazioni|licenses",
    "awards": "awards|honors|honours|prix|auszeichnungen|premios|premi|distinctions",
    "publications": "publications|publikationen|publicaciones|pubblicazioni|publicaties",
    "volunteer": "volunteer|volunteering|benevolat|ehrenamt|voluntariado|volontariato|vrijwilligerswerk",
    "interests": "interests|hobbies|loisirs|interessen|aficiones|interessi|interesses",
    "references": "references|referenzen|referencias|referenze",
}  # fmt: skip
TELLING = {word: field for field, words in reversed(_TELLING.items()) for word in words.split("|")}
_JOINTS = re.compile(r"\s+(?:and|et|und|y|e|i)\s+|\s*[/,|]\s*")


def plain(text: str) -> str:
    """Text for comparison: no accents, case or punctuation."""
    text = text.replace("&", " and ").replace("+", " and ").replace("ß", "ss")
    letters = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(char for char in letters if not unicodedata.combining(char))
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s/,|]|_", " ", letters)).strip(" /,|")


def field_of(text: str) -> str | None:
    """The field that a heading names; None if the text is no known heading.

    >>> field_of("EXPÉRIENCES PROFESSIONNELLES")
    'work'
    """
    if not 2 < len(text) <= 60 or text.count(" ") > 7:
        return None
    words = plain(text)
    if field := KNOWN.get(words) or KNOWN.get(
        re.sub(r"^(?:my|mes|mon|ma|meine|mis|mi|selected|relevant|key) ", "", words)
    ):
        return field
    if field := KNOWN.get(words.replace(" / ", " and ").replace("/", " and ")):
        return field
    parts = [part for part in _JOINTS.split(words) if part]
    if len(parts) > 1 and all(part in KNOWN for part in parts):
        fields = [KNOWN[part] for part in parts]
        return next((field for field in fields if field != "other"), "other")
    return None


def told_by_a_word(text: str) -> str | None:
    """The field that one telling word of a short heading names; None where none or two of different fields do.

    Only for lines that look like headings: sentences have such words too.

    >>> told_by_a_word("Schulische und berufliche Ausbildung")
    'education'
    """
    words = plain(text).replace("/", " ").replace(",", " ").split()
    if not 1 < len(words) <= 6 or any(word.isdigit() for word in words):
        return None
    fields = list(dict.fromkeys(TELLING[word] for word in words if word in TELLING))
    return fields[0] if len(fields) == 1 else None
