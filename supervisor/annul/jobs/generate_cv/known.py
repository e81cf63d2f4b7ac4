"""Names of skills that are told from other words by their name alone, in folded form (see words.py).

A list, and so never complete: a skill that is not on it is still found where the offer repeats it, asks for it
in a section of requirements, or writes it as a name. Being on it makes a term weigh more, and lets the offline
engine show it among the CV's skills where the CV says it elsewhere.
"""

from __future__ import annotations

# Other spellings of the same thing.
ALIASES: dict[str, str] = dict(
    line.split()
    for line in """
        js javascript|ts typescript|golang go|k8s kubernetes|postgres postgresql|mongo mongodb|sklearn scikit
        nodejs node.js|vuejs vue|reactjs react|nextjs next.js|nuxtjs nuxt.js|expressjs express|threejs three.js
        d3js d3|angularjs angular|aspnet asp.net|dotnet .net|.netcore .net|cplusplus c++|csharp c#|tsql t-sql
        cicd ci/cd|ux/ui ui/ux|gcloud gcp
    """.replace("|", "\n").splitlines()
    if line.strip()
)

_SINGLE = """
    python java c javascript typescript php ruby perl scala kotlin swift rust go r matlab fortran cobol haskell elixir
    erlang clojure groovy lua dart julia vba bash powershell sql plsql pl/sql t-sql c++ c# f# .net asp.net node.js
    react angular vue svelte next.js nuxt.js express django flask fastapi spring hibernate symfony laravel rails
    jquery html css sass less tailwind bootstrap webpack vite graphql rest grpc soap kafka rabbitmq zeromq celery
    postgresql mysql mariadb oracle sqlite mongodb redis cassandra elasticsearch neo4j dynamodb snowflake bigquery
    redshift databricks spark hadoop hive airflow dbt flink pandas numpy scipy scikit pytorch tensorflow keras opencv
    jupyter tableau looker metabase grafana prometheus kibana splunk datadog docker kubernetes openshift helm terraform
    ansible puppet chef vagrant jenkins gitlab github git svn bitbucket jira confluence ci/cd devops linux unix windows
    macos aws azure gcp heroku cloudflare nginx apache tomcat vmware tcp/ip vpn dns ldap oauth saml kerberos siem soc
    pentest owasp selenium cypress playwright junit pytest cucumber postman agile scrum kanban safe prince2 itil togaf
    uml bpmn sap salesforce dynamics workday servicenow hubspot zendesk excel powerpoint word access outlook
    sharepoint powerbi qlik sas spss stata figma sketch photoshop illustrator indesign blender unity unreal autocad
    solidworks catia revit inventor creo ansys comsol labview simulink plc scada arduino fpga vhdl verilog stm32 rtos
    frontend backend fullstack ecommerce ui/ux ux ui seo sea sem crm erp wms mes etl nlp llm ocr api apis microservices
    cnc gmp haccp fmea lean kaizen 5s spc ifrs gaap hgb datev sage quickbooks payroll bookkeeping telematics
    android ios flutter xamarin cordova tdd bdd ddd mlops
"""

_SEVERAL = """
    machine learning|deep learning|computer vision|data science|data analysis|data engineering|data warehouse
    natural language processing|object oriented|unit testing|test automation|continuous integration
    continuous delivery|continuous deployment|continuous improvement|power bi|google analytics|google ads
    google cloud|ruby on rails|spring boot|sql server|react native|unreal engine|visual studio|active directory
    project management|product management|stakeholder management|change management|risk management|quality management
    supply chain|lean management|six sigma|design thinking|user research|technical writing|financial modelling
    financial reporting|business development|account management|customer service|content marketing|social media
    email marketing|public relations|event management|first aid|intensive care|wound care|patient care
    gestion de projet|gestion des stocks|gestion de la paie|apprentissage automatique|analyse de donnees
    amelioration continue|controle de gestion|comptabilite analytique|service client|relation client
    base de donnees|bases de donnees|integration continue|conduite du changement|controle qualite
    maschinelles lernen|projektmanagement|qualitatsmanagement|agile entwicklung|aprendizaje automatico
    gestion de proyectos|atencion al cliente|mejora continua|recursos humanos|ressources humaines|human resources
    iso 9001|iso 27001|iso 14001|s/4 hana
"""

SKILLS: frozenset[tuple[str, ...]] = frozenset(
    [(word,) for word in _SINGLE.split()]
    + [tuple(phrase.split()) for line in _SEVERAL.splitlines() for phrase in line.split("|") if phrase.strip()]
)
LONGEST = max(map(len, SKILLS))

# Also everyday words, of one language or another: these are skills only where they are written as names.
AMBIGUOUS = frozenset(
    """c go r swift rust spark spring express flask chef puppet excel word access safe less dart julia creo sketch unity
    rest helm hive sage sea inventor outlook dynamics soap looker windows soc mes lean vite sem figma stata
    react oracle apache""".split()
)
