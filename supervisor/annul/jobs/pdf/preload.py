"""Importing this module imports pypdf, without Pillow: to be named in a job type's `preload`.

pypdf imports Pillow where that is installed, to take pictures out of PDFs. No job here does that, and it is 3 MiB in
each process. Who needs Pillow imports it afterwards, as ever.
"""

from __future__ import annotations

import sys

_without: dict[str, None] = {"PIL": None}  # what `import` takes for "there is none"
if "PIL" not in sys.modules:
    sys.modules.update(_without)  # type: ignore[arg-type]
    try:
        import pypdf  # noqa: F401
    finally:
        del sys.modules["PIL"]
