"""What the CV jobs have imported before they are forked: one list, so that one zygote and its spares serve them all.

What only generate-cv needs (lxml, snowballstemmer, typst) takes milliseconds to import, and 13 MiB to keep: it does so
itself.
"""

CV_JOBS = (
    "annul.jobs.pdf.preload",
    "pypdf",
    "openai",
    "phonenumbers",
    "annul.jobs.pdf.reader",
    "annul.jobs.chat.preload",
    "annul.jobs.import_pdf.offline",
    "annul.jobs.import_pdf.openai_engine",
)
