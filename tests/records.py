"""A job's record and its launch, as tests need one."""

from __future__ import annotations

from typing import Any

import msgspec

from annul.runtime.launch import Launch
from annul.runtime.limits import Limits
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


def launch(**values: Any) -> Launch:
    """The first attempt of the job `j`, of which only `values` matter. Its directories are nowhere."""
    given: dict[str, Any] = {
        "job_id": "j",
        "attempt": 1,
        "type": "t",
        "target": "m:a",
        "params": b"{}",
        "user": "ann",
        "title": "",
        "labels": {},
        "run_dir": "/nowhere",
        "attempt_dir": "/nowhere",
        "user_dir": "/nowhere",
        "notify": "/nowhere",
        "env": {},
        "limits": Limits(),
        "grace_s": 5.0,
        "signal_tree": False,
        "orphan_grace_s": 60.0,
        "daemon": 1,
    }
    return Launch(**given | values)
