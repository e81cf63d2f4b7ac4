"""The words by which an employer, a post, a school, a degree or a place is known, in several languages."""

from __future__ import annotations

import re

from annul.jobs.pdf.headings import field_of, plain


def _pattern(words: str) -> re.Pattern[str]:
    """One pattern for words separated by "|"; a trailing "*" stands for any ending, a leading one for any start."""
    parts = []
    for word in sorted({word.strip() for word in words.replace("\n", " ").split("|")} - {""}, key=len, reverse=True):
        core = re.escape(word.strip("*")).replace(r"\ ", r"\s+")
        parts.append(
            (r"\w*" if word.startswith("*") else r"(?<!\w)") + core + (r"\w*" if word.endswith("*") else r"(?!\w)")
        )
    return re.compile("|".join(parts))


POSITION = _pattern(
    """executive|worker*|labourer|laborer|farmer|apprentice|craftsman|seamstress|tailor|jeweller|florist|gardener|
    mason|painter|joiner|fitter|machinist|sailor|captain|officer|inspector|examiner|warden|porter|concierge|nurse*|
    carer|caregiver|housekeeper|barista|bartender|server|guard|soldier|firefighter|police*|paramedic|pharmacist|
    dentist|therapist|psychologist|surgeon|vet|counsel|counselor|counsellor|broker|agent|dealer|underwriter|actuary|
    economist|statistician|surveyor|draftsman|carpenter|foreman|handler|packer|picker|stocker|dispatcher|pilot|
    steward|stewardess|host|hostess|guide|trainer|coach|educator|investigator|preparat*|cariste*|magasinier*|
    livreur*|chauffeur*|maitre de conference*|aide|auxiliaire*|educat*|psychologue*|pharmacien*|dentiste|sage-femme|
    kinesitherapeute|notaire|chef|cheffe|second|commis|barman|boulanger*|patissi*|coiffeu*|esthetici*|electricien*|
    plombier|macon|menuisi*|peintre|soudeu*|mecanicien*|contremaitre|negociat*|acheteu*|acheteuse|approvisionneu*|
    planificat*|logisticien*|contable*|camarer*|dependient*|cociner*|conductor*|auxiliar*|encargad*|maestr*|
    periodist*|farmaceutic*|*pfleger*|krankenschwester|*verkaufer*|*fahrer*|*koch|kochin|*schlosser*|*elektriker*|
    *tischler*|*backer*|*arzt|*arztin|*jurist*|*anwalt|*anwaltin|*buchhalter*|*planer*|*gestalter*|*redakteur*|
    *betreuer*|*erzieher*|*wissenschaftler*|*beauftragte*|*fachkraft|*vertreter*|*controller*|*architekt*|
    hochbauzeichner*|bauzeichner*|engineer*|developer*|manager*|director*|lead|leader|head of|head|chief|ceo|cto|cfo|
    coo|cio|vp|vice president|president|founder|co-founder|cofounder|co founder|founding|consultant*|analyst*|
    architect*|designer*|administrator*|assistant*|associate|intern|internship|trainee|student|researcher*|
    scientist*|professor*|lecturer*|teacher*|instructor*|tutor|fellow|postdoc*|technician*|specialist*|coordinator*|
    supervisor*|programmer*|representative|advisor|adviser|physician|doctor|accountant*|auditor|lawyer|attorney|
    paralegal|editor*|writer*|journalist*|translator*|sales*|marketing|support|owner|partner|principal|freelance*|
    contractor|secretary|clerk|cashier|waiter|waitress|driver|cook|librarian|receptionist|recruiter|buyer|planner|
    strategist|producer|artist|photographer|qa|sre|devops|mentor|volunteer|member|organizer|ambassador|chair|
    treasurer|staff|operator|mechanic|electrician|plumber|welder|full-stack|fullstack|frontend|backend|front-end|
    back-end|ingenieur*|developpeu*|chef de*|cheffe de*|responsable*|directeur*|directrice*|charge de*|chargee de*|
    stagiaire*|stage|alternant*|alternance|apprenti*|technicien*|enseignant*|professeur*|chercheu*|doctorant*|
    attache*|comptable*|vendeu*|conseiller*|conseillere*|infirmier*|infirmiere*|medecin|conducteur*|conductrice*|
    gestionnaire*|adjoint*|animateur*|animatrice*|serveu*|redacteur*|redactrice*|traducteur*|traductrice*|graphiste|
    architecte*|analyste*|administrateur*|benevole|tresorier*|secretaire|coordinateur*|coordinatrice*|president*|
    membre|vice-president*|formateur*|formatrice*|juriste|avocat*|aide-soignant*|cuisinier*|cuisiniere|hotesse|
    agent*|operateur*|ouvrier*|employe*|commercial*|chargee|*ingenieur*|*entwickler*|*leiter*|*leitung|
    geschaftsfuhrer*|berater*|*berater*|*mitarbeiter*|werkstudent*|praktikant*|praktikum|*assistent*|lehrer*|dozent*|
    *techniker*|sachbearbeiter*|referent*|*kaufmann|*kauffrau|auszubildende*|projektmanager*|hilfskraft|forscher*|
    ingenier*|desarrollador*|gerente*|jefe*|jefa*|becari*|profesor*|investigador*|tecnic*|consultor*|asesor*|
    analista*|disenador*|administrativ*|enfermer*|abogad*|practicas|practicante|medic*|sviluppat*|ingegner*|
    responsabile*|impiegat*|tirocinante|docente|ricercat*|architett*|avvocat*|magazzinier*|cuoc*|cameriere|cameriera|
    infermier*|contabile|commess*|autista|operai*|segretari*|insegnant*|muratore|elettricista|addett*|programador*|
    desenvolvedor*|enfermeir*|advogad*|vendedor*|cozinheir*|motorista|estagiari*|coordenador*|diretor*|engenheir*|
    recepcionista|medewerk*|*medewerker|teamleider|*leider|verpleegkundig*|docent|leraar|lerares|boekhoud*|*monteur|
    kok|verkoper|verkoopster|stagiair*|directeur|ontwikkelaar|adviseur|magazijn*|chauffeur|maestra|maestro|mozo|
    repartidor*|peluquer*|arquitect*|electricista|ingenieur|aider|keeper|cleaner|baker|butcher|builder|plasterer|
    roofer|solicitor|barrister|chef de partie|sous chef|midwife|radiographer|optician|scrum master|product owner|
    postdoctoral*|*referendar*|*stationsleitung|*sachbearbeiter*|*kraft|*helfer|*helferin|*meister*|*angestellte*|
    pflegedienst*|*hilfe|*assistenz"""
)
COMPANY = _pattern(
    """inc|inc.|ltd|llc|llp|corp|corporation|company|co.|gmbh|ag|kg|ug|se|sa|s.a.|s.a|sas|sarl|eurl|scop|plc|bv|b.v.|
    nv|oy|ab|srl|s.r.l|spa|s.p.a|sl|s.l|group|groupe|gruppe|grupo|labs|lab|laboratory|laboratories|laboratoire*|
    university|universite|universitat|universidad|university of|institute|institut|hospital|hopital|chu|clinic|
    clinique|klinik|bank|banque|ministry|ministere|agency|agence|school|ecole|college|lycee|foundation|fondation|
    stiftung|technologies|technology|solutions|systems|software|services|consulting|partners|holdings|industries|
    studio|studios|media|research|cnrs|inria|inserm|self-employed|self employed|independant|selbststandig|city of|
    department|mairie|association|council|society|club|stadt|centre|center|works|werke|robotics|networks|energy|
    pharma|motors|airlines|press|restaurant|hotel|consortium|organization|organisation|srls|s.r.l.s|ltda|eireli|
    s.p.a.|s.r.l.|n.v.|s.l.|s.l.u|slu|pty|oyj|aps|a/s|as|asa|sp. z o.o.|sp z o.o|kft|cooperativa|coop|ospedale|
    hospital de|ayuntamiento|comune|prefeitura|gemeente|stadtwerke|krankenhaus|*krankenhaus|*klinikum|*gericht|
    kanzlei|cabinet|etude|studio legale|ehpad|colegio|ceip|ies|escuela|scuola|istituto|politecnico|banco|banca|caja|
    autohaus|maschinenbau|osteria|trattoria|brasserie|boulangerie|pharmacie|farmacia|apotheke|logistics|logistik|
    logistica|transports|trasporti|construction|constructions|travaux|batiment|stores|store|foods|credit union|trust|
    nhs|care home|village|academy|institution"""
)
SCHOOL = _pattern(
    """university|universit*|universidad*|universita|universidade|uni|college|school|institute|institut|instituto|
    istituto|academy|academie|akademie|academia|polytechnic|polytechnique|polytech*|politecnic*|politecnico|faculty|
    faculte|fakultat|ecole|lycee|iut|iae|insa|ensa*|ens|ensi*|esiee|epita|epitech|hec|essec|escp|emlyon|supelec|
    centrale*|mines|ponts|sciences po|sorbonne|upmc|campus|cfa|cnam|greta|ifsi|conservatoire|hochschule*|
    fachhochschule*|gymnasium|realschule|berufsschule|schule|*schule|oberstufe|lyceum|liceo|colegio|escuela|mit|eth|
    epfl|kth|ucla|uc berkeley|ucl|lse|kaist|caltech|eth zurich|tu|udacity|coursera|bootcamp|openclassrooms|le wagon|
    ecole 42|high school|kolleg|uned|roc|mbo college|hbo|hogeschool|universiteit|technische universiteit|basisschool|
    istituto tecnico|scuola|politechnika|uniwersytet|universitet|hogskola|hogskolan|universitetet|ortaokul|
    institucion|faculdade|etec|senai|fatec|usp|lycee professionnel|estp|academy of|law school|business school|
    medical school|*fachschule|*akademie|*gymnasium|*kolleg|*universitat"""
)
DEGREE = _pattern(
    """bachelor*|master*|ph.d.|ph.d|phd|ph. d.|doctor|doctorate|doctoral|doctorat|b.s.|b.s|bs|bsc|b.sc.|b.sc|ba|b.a.|
    b.a|m.s.|m.s|ms|msc|m.sc.|m.sc|ma|m.a.|m.a|mba|m.b.a.|b.eng|beng|b.eng.|m.eng|meng|m.eng.|b.tech|btech|m.tech|
    mtech|llb|llm|jd|j.d.|md|m.d.|associate*|diploma|degree|minor|major|certificate|honours|honors|undergraduate|
    graduate|graduated|postgraduate|exchange|semester abroad|high school diploma|a-levels|a levels|gcse|ged|licence|
    licence professionnelle|maitrise|master|mastere|these|diplome*|dut|but|bts|deug|dea|dess|bac|baccalaureat|bac+*|
    cap|bep|brevet|cpge|classe* prepa*|prepa|prepas|ingenieur|titre professionnel|agregation|capes|hdr|habilitation|
    magistere|deust|diplom|diplom-*|staatsexamen|magister|abitur|ausbildung*|promotion|fachabitur|mittlere reife|
    matura|matur|lehre|weiterbildung|fachhochschulreife|kaufmann|kauffrau|grado*|licenciatura|licenciad*|ingenieria|
    ingeniero|ingeniera|doctorado|diplomatura|bachillerato|tecnico*|laurea|laurea magistrale|dottorato|diploma di*|
    maturita|bacharel*|mestrado|doutorado|studies|studium|studiengang|master studies|bachelor studies|master's|
    bachelor's|b.com|bcom|bba|b.ed|m.ed|m.phil|mphil|dphil|ll.m|ll.b|pgce|b.arch|m.arch|mres|bfa|mfa|b.f.a|m.f.a|
    legal practice course|bacharelado|tecnologo|ensino medio|curso tecnico|pos-graduacao|especializacao|mbo*|hbo*|
    vwo|havo|vmbo|propedeuse|maturita*|perito|ragioneria|qualifica professionale|dottorato di ricerca|
    master's degree|bachelor's degree|exchange semester|foundation|nvq|hnd|hnc|a-level|baccalaureate|referendariat|
    meister*|umschulung|realschulabschluss|hauptschulabschluss|hochschulreife|allgemeine hochschulreife|
    diplome d'etat|diplome d'ingenieur|certificat d'aptitude|mention complementaire|licence pro|grado en|
    grado superior|ciclo formativo|e.s.o|eso|cfgs|cfgm|magisterio"""
)
FLUENCY = _pattern(
    """native|native speaker|mother tongue|bilingual|fluent|fluently|proficient|professional*|full professional|
    working proficiency|advanced|intermediate|upper intermediate|basic|basics|beginner|elementary|conversational|
    limited working|good|excellent|very good|a1|a2|b1|b2|c1|c2|toeic*|toefl*|ielts*|langue maternelle|maternel*|
    bilingue|courant|couramment|lu|ecrit|parle|notions|intermediaire|avance|debutant|scolaire|technique|natif|niveau|
    bonnes notions|bon niveau|professionnel*|muttersprache|fliessend|fließend|verhandlungssicher|grundkenntnisse|gut|
    sehr gut|gute kenntnisse|nativo|lengua materna|fluido|avanzado|intermedio|basico|madrelingua|fluente|buono|
    scolastico|skill level|limited|minimum|level|competent|konversationssicher|in wort und schrift|moedertaal|
    vloeiend|goed|redelijk|matig|basis|uitstekend|native-like|bilingual*|lingua madre|ottimo|discreto|elementare|
    avanzato|base|nativa|avancado|intermediario|latinum|modersmal|flytande|plynny|ojczysty|mother-tongue|
    school level|upper-intermediate"""
)
LEVEL = _pattern(
    """beginner|novice|basic|basics|elementary|intermediate|advanced|expert|master|proficient|proficiency|competent|
    familiar|skilled|good|excellent|debutant|intermediaire|avance|confirme|maitrise|notions|grundkenntnisse|
    fortgeschritten|experte|gut|sehr gut|basico|intermedio|avanzado|experto"""
)
LANGUAGES = _pattern(
    """english|french|german|spanish|italian|portuguese|dutch|chinese|mandarin|cantonese|japanese|korean|arabic|
    russian|polish|czech|swedish|norwegian|danish|finnish|turkish|greek|hebrew|hindi|urdu|bengali|romanian|hungarian|
    ukrainian|vietnamese|thai|indonesian|malay|catalan|basque|irish|welsh|latin|esperanto|persian|farsi|tamil|telugu|
    punjabi|croatian|serbian|slovak|slovenian|bulgarian|swahili|icelandic|lithuanian|latvian|estonian|anglais|
    francais|allemand|espagnol|italien|portugais|neerlandais|chinois|japonais|coreen|arabe|russe|polonais|tcheque|
    suedois|norvegien|danois|finnois|turc|grec|hebreu|roumain|hongrois|ukrainien|vietnamien|breton|occitan|corse|lsf|
    langue des signes*|persan|bulgare|croate|serbe|englisch|franzosisch|deutsch|spanisch|italienisch|portugiesisch|
    niederlandisch|chinesisch|japanisch|koreanisch|arabisch|russisch|polnisch|tschechisch|schwedisch|norwegisch|
    danisch|finnisch|turkisch|griechisch|latein|ukrainisch|ungarisch|rumanisch|kroatisch|ingles|frances|aleman|
    espanol|italiano|portugues|holandes|chino|japones|coreano|ruso|polaco|sueco|griego|castellano|gallego|euskera|
    valenciano|inglese|francese|tedesco|spagnolo|portoghese|cinese|giapponese|russo|arabo|mandarino|nederlands|
    engels|duits|frans|spaans|italiaans|portugees|chinees|turks|pools|fries|vlaams|islandes|noruego|danes|rumano|
    bulgaro|hebreo|tedesca|alemao|mandarim|chines|hebraico|engelska|svenska|tyska|franska|spanska|norska|danska|
    finska|engelsk|tysk|fransk|spansk|norsk|dansk|svensk|polski|angielski|niemiecki|francuski|hiszpanski|rosyjski|
    ukrainski|isixhosa|xhosa|zulu|isizulu|afrikaans|sotho|tswana|yoruba|igbo|hausa|amharic|somali|wolof|bambara|
    lingala|kabyle|berbere|amazigh|tagalog|filipino|nepali|sinhala|marathi|gujarati|kannada|malayalam|pashto|dari|
    kurdish|kurdisch|kurde|armenian|georgian|azerbaijani|kazakh|uzbek|mongolian|khmer|lao|burmese|macedonian|
    albanian|albanais|albanisch|bosnian|bosnisch|montenegrin|maltese|luxembourgish|letzebuergesch|
    british sign language|bsl|asl|american sign language"""
)
COUNTRIES = {
    "france": "FR", "germany": "DE", "deutschland": "DE", "allemagne": "DE", "spain": "ES", "espana": "ES",
    "espagne": "ES", "italy": "IT", "italia": "IT", "italie": "IT", "portugal": "PT", "belgium": "BE",
    "belgique": "BE", "belgie": "BE", "switzerland": "CH", "suisse": "CH", "schweiz": "CH", "austria": "AT",
    "osterreich": "AT", "autriche": "AT", "netherlands": "NL", "the netherlands": "NL", "pays-bas": "NL",
    "luxembourg": "LU", "united kingdom": "GB", "uk": "GB", "u.k.": "GB", "england": "GB", "scotland": "GB",
    "wales": "GB", "royaume-uni": "GB", "ireland": "IE", "irlande": "IE", "united states": "US",
    "united states of america": "US", "usa": "US", "u.s.a": "US", "us": "US", "etats-unis": "US", "canada": "CA",
    "mexico": "MX", "brazil": "BR", "brasil": "BR", "argentina": "AR", "chile": "CL", "colombia": "CO",
    "peru": "PE", "china": "CN", "japan": "JP", "japon": "JP", "korea": "KR", "south korea": "KR",
    "republic of korea": "KR", "s.korea": "KR", "india": "IN", "inde": "IN", "pakistan": "PK", "indonesia": "ID",
    "singapore": "SG", "malaysia": "MY", "thailand": "TH", "vietnam": "VN", "philippines": "PH", "australia": "AU",
    "new zealand": "NZ", "south africa": "ZA", "nigeria": "NG", "kenya": "KE", "egypt": "EG", "morocco": "MA",
    "maroc": "MA", "algeria": "DZ", "algerie": "DZ", "tunisia": "TN", "tunisie": "TN", "senegal": "SN",
    "turkey": "TR", "turkiye": "TR", "israel": "IL", "uae": "AE", "united arab emirates": "AE",
    "saudi arabia": "SA", "russia": "RU", "ukraine": "UA", "poland": "PL", "pologne": "PL", "polska": "PL",
    "czech republic": "CZ", "czechia": "CZ", "slovakia": "SK", "hungary": "HU", "romania": "RO", "roumanie": "RO",
    "bulgaria": "BG", "greece": "GR", "grece": "GR", "croatia": "HR", "serbia": "RS", "slovenia": "SI",
    "sweden": "SE", "suede": "SE", "norway": "NO", "norvege": "NO", "denmark": "DK", "danemark": "DK",
    "finland": "FI", "finlande": "FI", "iceland": "IS", "estonia": "EE", "latvia": "LV", "lithuania": "LT",
    "taiwan": "TW", "hong kong": "HK", "iran": "IR", "iraq": "IQ", "lebanon": "LB", "liban": "LB",
}  # fmt: skip
# What forms print before a contact; no text of their own. Without accents, in lower case.
LABELS = set(
    """name|nom|prenom|nombre|nome|naam|vorname|nachname|surname|first name|last name|address|adresse|anschrift|
    direccion|domicilio|indirizzo|residenza|endereco|adres|woonplaats|wohnort|location|city|ville|ort|ciudad|citta|
    cidade|plaats|email|e mail|mail|courriel|correo|correo electronico|e mailadres|phone|telephone|tel|mobile|mobil|
    handy|telefon|telefono|telefone|telefoon|telefoonnummer|cell|portable|movil|cellulare|fax|website|web|site|
    site web|homepage|url|linkedin|github|skype|date of birth|birth date|geburtsdatum|geboren|geboortedatum|
    date de naissance|ne le|nee le|ne e le|data di nascita|fecha de nacimiento|data de nascimento|place of birth|
    geburtsort|nationality|nationalite|staatsangehorigkeit|nationalitat|nacionalidad|nazionalita|nacionalidade|
    nationaliteit|marital status|familienstand|etat civil|situation familiale|estado civil|stato civile|gender|sexe|
    sexo|sesso|geschlecht|geslacht|permis|permis de conduire|fuhrerschein|driving licence|driving license|patente|
    rijbewijs|age|alter|edad|contact|social|profiles|twitter|facebook|instagram|xing|whatsapp|postal code|country|
    land|pays|pais|paese""".replace("\n", " ").split("|")
)
LABELS = {" ".join(word.split()) for word in LABELS}
_STATE = re.compile(
    r"^(?:A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]|BC|ON|QC|AB|NS|NB|MB|SK|NSW|VIC|QLD|ACT|TAS)$"
)
_REMOTE = re.compile(r"^(?:fully )?(?:remote|teletravail|a distance|hybrid|online|homeoffice|home office|full remote)$")
# Words written small in the names of towns.
_IN_TOWNS = {
    "de", "del", "della", "di", "da", "do", "dos", "des", "du", "la", "le", "les", "los", "las", "sur", "sous", "en",
    "am", "an", "der", "den", "im", "bei", "ob", "upon", "on", "of", "the", "under", "by", "y", "i", "van", "aan",
    "op", "zee", "lès",
}  # fmt: skip
_PLACE_WORD = re.compile(r"^[^\W\d_][\w'’.\- ]{1,40}$")
_POSTAL = re.compile(r"(?<!\d)(?:[A-Z]{1,2}-?)?\d{4,5}(?!\d)")


def begins(pattern: re.Pattern[str], text: str) -> bool:
    """The text begins with one of the words."""
    return pattern.match(_low(text)) is not None


def has(pattern: re.Pattern[str], text: str) -> bool:
    """The text has one of the words."""
    return pattern.search(_low(text)) is not None


def matched(pattern: re.Pattern[str], text: str) -> int:
    """How many different words of the pattern the text has."""
    return len(set(pattern.findall(_low(text))))


def _low(text: str) -> str:
    """As `plain`, with the dots and dashes that degrees and posts are told by."""
    from annul.jobs.import_pdf.offline.dates import flat

    return flat(text)


def country_of(text: str) -> str:
    """The ISO code of a country's name; "" if it is none."""
    if len(text) == 2 and text.isupper() and text in COUNTRIES.values() and not _STATE.match(text):
        return text
    low = _low(text).strip(" .")
    return COUNTRIES.get(low) or COUNTRIES.get(plain(text), "")


def place_score(text: str) -> float:
    """How much a text looks like a place: 1.0 surely, 0.0 not at all."""
    text = re.sub(r"\s*\(([A-Z]{2})\)$", r", \1", text.strip()).strip(" .,()")
    if not text or len(text) > 60 or len(text.split()) > 8 or plain(text) in LABELS or field_of(text):
        return 0.0
    if _REMOTE.match(_low(text)):
        return 1.0
    parts = [part.strip() for part in re.split(r"[,/]", text) if part.strip()]
    last = parts[-1]
    if len(parts) in (2, 3, 4) and all(_PLACE_WORD.match(part) or _POSTAL.search(part) for part in parts):
        tail = last.split()[0] if _POSTAL.search(last) and last.split() else last
        if _STATE.match(tail) or country_of(last):
            return 1.0
        if any(has(pattern, text) for pattern in (POSITION, DEGREE, SCHOOL, COMPANY)):
            return 0.0
        if all(part[:1].isupper() for part in parts) and len(text) < 32:
            return 0.45
    if len(parts) == 1 and (country_of(text) or _STATE.match(text)):
        return 0.9
    if len(parts) == 1 and _PLACE_WORD.match(text) and text[:1].isupper() and len(text.split()) <= 3:
        if any(has(pattern, text) for pattern in (POSITION, DEGREE, SCHOOL, COMPANY, LANGUAGES)):
            return 0.0
        if any(word[:1].islower() and word not in _IN_TOWNS for word in text.split()):
            return 0.0
        return 0.3
    return 0.0
