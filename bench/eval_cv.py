"""Per-field F1 of the offline engine over a corpus of CVs with their expected JSON Resume documents.

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


def import_cv(pdf: Path) -> dict[str, Any]:
    """One CV through reader and engine, in this process."""
    from annul.jobs.import_pdf.offline import extract
    from annul.jobs.pdf.reader import read

    def quiet(_fraction: float, _stage: str) -> None:
        return

    document = read(pdf, max_pages=50, max_bytes=10_000_000, max_chars=200_000, progress=quiet)
    extraction = extract(document, progress=quiet)
    cv: dict[str, Any] = json.loads(msgspec.json.encode(extraction.cv))
    return cv


def add(total: dict[str, list[int]], own: dict[str, list[int]]) -> None:
    """Add one CV's counts to a total."""
    for key, cell in own.items():
        total[key] = [a + b for a, b in zip(total.get(key, [0, 0, 0]), cell, strict=True)]


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
    total: dict[str, list[int]] = {}
    by_kind: dict[str, dict[str, list[int]]] = {}
    failed: list[str] = []
    seconds = 0.0
    count = 0
    with (options.corpus / "manifest.tsv").open(encoding="utf-8") as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t"))
    for row in rows:
        pdf = options.corpus / row["file"]
        if not row["truth"] or row["category"][0] not in "AB" or not pdf.exists() or options.only not in row["file"]:
            continue
        truth = json.loads((options.corpus / "truth" / row["truth"]).read_text(encoding="utf-8"))
        count += 1
        began = time.perf_counter()
        try:
            got = import_cv(pdf)
        except Exception as error:  # noqa: BLE001 - the rest of the corpus is still measured
            failed.append(f"{row['file']}: {error!r}")
            got = {}
        seconds += time.perf_counter() - began
        own: dict[str, list[int]] = {}
        scorer.compare(own, json.loads(json.dumps(truth)), json.loads(json.dumps(got)))
        add(total, own)
        add(by_kind.setdefault(f"language {row['language']}", {}), own)
        add(by_kind.setdefault(f"kind {row['category']}", {}), own)
        if options.verbose or options.diff:
            print(f"{row['file']:44} {row['language']}  F1 {scorer.micro(own, lambda _: True)[2]:.2f}", end="  ")
            print(" ".join(f"{key}{cell}" for key, cell in own.items() if cell[1] or cell[2]))
        if options.diff:
            for key in ("basics", "work", "education", "projects", "volunteer", "skills", "languages"):
                for label, side in (("T", truth), ("G", got)):
                    value = side.get(key)
                    for one in value if isinstance(value, list) else [value]:
                        if isinstance(one, dict):
                            short = {k: v for k, v in one.items() if k not in ("highlights", "summary", "courses")}
                            print("   ", label, key, json.dumps(short, ensure_ascii=False))
    print(f"{'field':26} {'P':>5} {'R':>5} {'F1':>5}   [found, wrong, missed]")
    for key in sorted(total):
        precision, recall, f1 = scorer.prf(total[key])
        print(f"{key:26} {precision:5.2f} {recall:5.2f} {f1:5.2f}   {total[key]}")
    for kind in sorted(by_kind):
        print(f"{kind:26} {'':5} {'':5} {scorer.micro(by_kind[kind], lambda _: True)[2]:5.2f}")
    contacts = scorer.micro(total, lambda key: key in ("basics.name", "basics.email", "basics.phone"))[2]
    entries = scorer.micro(total, lambda key: key.startswith(("work.", "education.")))[2]
    everything = scorer.micro(total, lambda _: True)[2]
    for one in failed:
        print("failed:", one)
    print(
        f"{count} CVs, {len(failed)} failed, {seconds / max(1, count):.3f} s a CV; F1 contacts {contacts:.2f}, "
        f"work+education {entries:.2f}, all {everything:.2f}"
    )
    return 0 if contacts >= 0.9 and entries >= 0.75 else 1


if __name__ == "__main__":
    sys.exit(main())
