"""Submit a job, follow it and cancel it with pyzmq alone: docs/protocol.md is all that one has to know.

ANNUL_ENDPOINT=ipc:///run/user/1000/annul/annul.sock python examples/bare_pyzmq.py
"""

import os
import sys
from typing import Any

import zmq

requests = zmq.Context().socket(zmq.REQ)
requests.connect(os.environ["ANNUL_ENDPOINT"])


def ask(verb: str, **fields: Any) -> Any:
    requests.send_json({"verb": verb, **fields})
    answer: Any = requests.recv_json()
    return answer["ok"] if "ok" in answer else sys.exit(f"{answer['error']['code']}: {answer['error']['message']}")


job = ask("submit", type="exec", params={"argv": ["sleep", "1000"]})["job"]
while job["state"] != "running":
    job = ask("wait", id=job["id"], timeout_s=0.1)["job"]
print(ask("cancel", id=job["id"], reason="seen enough")["outcome"])
job = ask("wait", id=job["id"], timeout_s=60)["job"]
for event in ask("events", since=0, job_id=job["id"])["events"]:
    print(event["seq"], event["kind"])
sys.exit(job["state"] != "cancelled")
