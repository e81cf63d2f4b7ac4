"""Precision, recall and F1 of the offline import over a corpus of CVs with their expected JSON Resume documents.

For each field; then, by language, kind and layout, the F1 of contacts (name, email, phone: "cont."), of work and
education entries (employer, post, school, degree, dates: "entr.") and of all fields. Counts are of values, summed over
all CVs (micro-averages): found, wrong (printed otherwise, or not at all) and missed; the scorer says when two values
are the same. Last, how many of the PDFs' words are anywhere in the result: nothing may be thrown away.

    python bench/eval_cv.py [--corpus DIR] [--scorer FILE] [--verbose] [--only TEXT]

DIR holds `manifest.tsv`, the PDFs and `truth/`. The scorer is the file that the project's acceptance tests use; it is
not part of this repository. Exit status: 0 when the thresholds of the README are met, 1 when not, 2 when there is no
corpus.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def load_scorer(path: Path) -> ModuleType:
    """The scorer's functions, without running its command line (its last line)."""
    source = path.read_text(encoding="utf-8").rstrip()
    source = source.removesuffix("main()")
    module = ModuleType("scorer")
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


CONTACTS = ("basics.name", "basics.email", "basics.phone")
ENTRIES = ("work.", "education.")
Counts = dict[str, list[int]]  # by field: found, wrong, missed


class Got(msgspec.Struct):
    """One CV, imported."""

    cv: dict[str, Any]
    words: int  # in the PDF's text
    kept: int  # of them, how many are in the CV, beside it or among the report's headings
    doubted: bool  # the report says that it may be no CV


def import_cv(pdf: Path) -> Got:
    """One CV through reader and engine, in this process."""
    from annul.jobs.import_pdf.offline import extract
    from annul.jobs.import_pdf.offline.leftover import words_of
    from annul.jobs.pdf.reader import read

    def quiet(_fraction: float, _stage: str) -> None:
        return

    document = read(pdf, max_pages=50, max_bytes=10_000_000, max_chars=200_000, progress=quiet)
    extraction = extract(document, progress=quiet)
    cv: dict[str, Any] = json.loads(msgspec.json.encode(extraction.cv))
    held = json.dumps([cv, extraction.report.sections], ensure_ascii=False).replace("\\n", " ")
    known = set(words_of(held))
    words = words_of(document.text)
    doubted = any("may be no CV" in line for line in extraction.report.uncertain)
    return Got(cv, len(words), sum(word in known for word in words), doubted)


def add(total: Counts, own: Counts) -> None:
    """Add one CV's counts to a total."""
    for key, cell in own.items():
        total[key] = [a + b for a, b in zip(total.get(key, [0, 0, 0]), cell, strict=True)]


def is_entry(key: str) -> bool:
    return key.startswith(ENTRIES)


def table(scorer: ModuleType, total: Counts, groups: dict[str, dict[str, Counts]]) -> str:
    """One table: precision, recall and F1 of each field, then F1 by language, kind and layout."""
    out = [f"{'field':36} {'P':>5} {'R':>5} {'F1':>5}   found wrong missed"]
    for key in sorted(total):
        precision, recall, f1 = scorer.prf(total[key])
        out.append(f"{key:36} {precision:5.2f} {recall:5.2f} {f1:5.2f}   {' '.join(f'{one:5}' for one in total[key])}")
    for what, group in groups.items():
        out.append(f"{'F1 by ' + what:36} {'CVs':>5} {'cont.':>5} {'entr.':>5} {'all':>5}")
        for name, counts in sorted(group.items()):
            merged: Counts = {}
            for own in counts.values():
                add(merged, own)
            picks = (lambda key: key in CONTACTS, is_entry, lambda _key: True)
            shares = " ".join(f"{scorer.micro(merged, pick)[2]:5.2f}" for pick in picks)
            out.append(f"  {name[:34]:34} {len(counts):5} {shares}")
    return "\n".join(out)


def difference(truth: dict[str, Any], got: dict[str, Any]) -> str:
    """The expected (T) and the found (G) entries of one CV."""
    out = []
    for key in ("basics", "work", "education", "projects", "volunteer", "skills", "languages"):
        for label, side in (("T", truth), ("G", got)):
            value = side.get(key)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    short = {k: v for k, v in one.items() if k not in ("highlights", "summary", "courses")}
                    out.append(f"    {label} {key} {json.dumps(short, ensure_ascii=False)}")
    return "\n".join(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpus")
    parser.add_argument("--scorer", type=Path, default=SHARED / "tools" / "score_cv.py")
    parser.add_argument("--only", default="", help="only files whose name has this text")
    parser.add_argument("--verbose", action="store_true", help="one line for each CV")
    parser.add_argument("--diff", action="store_true", help="expected and found values of each CV")
    options = parser.parse_args()
    if not (options.corpus / "manifest.tsv").exists() or not options.scorer.exists():
        print(f"no corpus at {options.corpus} or no scorer at {options.scorer}")
        return 2
    scorer = load_scorer(options.scorer)
    total: Counts = {}
    groups: dict[str, dict[str, Counts]] = {"language": {}, "kind": {}, "layout": {}}
    failed: list[str] = []
    seconds = 0.0
    count = words = kept = doubted = 0
    with (options.corpus / "manifest.tsv").open(encoding="utf-8") as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t"))
    for row in rows:
        pdf = options.corpus / row["file"]
        if not row["truth"] or row["category"][0] not in "AB" or not pdf.exists() or options.only not in row["file"]:
            continue
        truth = json.loads((options.corpus / "truth" / row["truth"]).read_text(encoding="utf-8"))
        count += 1
        began = time.perf_counter()
        got = Got({}, 0, 0, doubted=False)
        try:
            got = import_cv(pdf)
        except Exception as error:  # noqa: BLE001 - the rest of the corpus is still measured
            failed.append(f"{row['file']}: {error!r}")
        seconds += time.perf_counter() - began
        words, kept, doubted = words + got.words, kept + got.kept, doubted + got.doubted
        own: Counts = {}
        scorer.compare(own, json.loads(json.dumps(truth)), json.loads(json.dumps(got.cv)))
        add(total, own)
        for what, name in (("language", row["language"]), ("kind", row["category"]), ("layout", row["layout"])):
            groups[what].setdefault(name, {})[row["file"]] = own
        if options.verbose or options.diff:
            print(f"{row['file']:44} {row['language']}  F1 {scorer.micro(own, lambda _: True)[2]:.2f}", end="  ")
            print(" ".join(f"{key}{cell}" for key, cell in own.items() if cell[1] or cell[2]))
        if options.diff:
            print(difference(truth, got.cv))
    print(table(scorer, total, groups))
    contacts = scorer.micro(total, lambda key: key in CONTACTS)[2]
    entries = scorer.micro(total, is_entry)[2]
    everything = scorer.micro(total, lambda _: True)[2]
    for one in failed:
        print("failed:", one)
    print(f"{kept / max(1, words):.1%} of {words:,} words are in the result; {doubted} CVs were doubted to be one")
    print(
        f"{count} CVs, {len(failed)} failed, {seconds / max(1, count):.3f} s a CV; F1 contacts {contacts:.2f}, "
        f"work+education {entries:.2f}, all {everything:.2f}"
    )
    return 0 if contacts >= 0.9 and entries >= 0.75 else 1


if __name__ == "__main__":
    sys.exit(main())
