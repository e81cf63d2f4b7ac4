"""A job's record as tests of the store and of what uses it need one."""

from __future__ import annotations

from typing import Any

import msgspec

from annul.store import JobRecord


def record(seq: int = 1, **values: Any) -> JobRecord:
    """The job `j<seq>`, of which only `values` matter."""
    given: dict[str, Any] = {
        "seq": seq,
        "id": f"j{seq}",
        "request": None,
        "type": "t",
        "user": "ann",
        "key": None,
        "digest": b"\0\xff",
        "title": "",
        "labels": {},
        "priority": 0,
        "params": msgspec.Raw(b"{}"),
        "timeout_s": None,
        "not_before": None,
        "submitted_by": "cli",
        "created_at": 1_700_000_000.5,
    }
    return JobRecord(**given | values)
