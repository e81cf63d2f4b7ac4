#!/bin/sh
# Submit a job, follow it and cancel it from a shell, with the command line and jq. $ANNUL_ENDPOINT or the default place.
set -eu

id=$(annul exec --detach --json -- sleep 1000 | jq -r .id)
until [ "$(annul show "$id" --json | jq -r .state)" = running ]; do sleep 0.1; done
annul cancel "$id" --reason "seen enough" --json | jq -r .outcome
annul wait "$id" --json | jq -r '.state, .cancel.stage'
