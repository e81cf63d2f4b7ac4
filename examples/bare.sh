#!/bin/sh
# The same without annul's command line: any Python with pyzmq carries the bytes. $ANNUL_ENDPOINT says where to.
set -eu

ask() {
    python3 -c 'import sys, zmq
requests = zmq.Context().socket(zmq.REQ)
requests.connect(sys.argv[1])
requests.send_string(sys.argv[2])
print(requests.recv_string())' "$ANNUL_ENDPOINT" "$1"
}

id=$(ask '{"verb":"submit","type":"exec","params":{"argv":["sleep","1000"]}}' | sed 's/.*"job":{"id":"\([^"]*\)".*/\1/')
ask "{\"verb\":\"cancel\",\"id\":\"$id\",\"reason\":\"seen enough\"}"
ask "{\"verb\":\"wait\",\"id\":\"$id\"}"
