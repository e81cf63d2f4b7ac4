"""Runs a program when it is imported, as some libraries do to learn what machine they are on."""

import subprocess

STATUS = subprocess.run(["sleep", "2.75"], check=False).returncode
