// Submits a job, prints its events, and cancels it at Ctrl-C. All it knows of annul is docs/protocol.md.
//
//   npm ci && ANNUL_ENDPOINT=ipc:///run/user/1000/annul/annul.sock node job.js exec '{"argv": ["sleep", "1000"]}'

import { randomUUID } from "node:crypto";
import { Dealer, Subscriber } from "zeromq";

const FINAL = ["completed", "failed", "cancelled"];
const [type, params = "{}"] = process.argv.slice(2);

const requests = new Dealer({ linger: 0 });
requests.connect(process.env.ANNUL_ENDPOINT);

const waiting = new Map(); // request id -> what takes its answer
let sent = Promise.resolve(); // a socket of zeromq.js takes one message at a time

function ask(verb, fields = {}) {
  const rid = randomUUID(); // unique, so that the same submit sent twice would make one job
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${verb}: no answer`)), 10_000);
    waiting.set(rid, ({ ok, error }) => {
      clearTimeout(late);
      error ? reject(new Error(`${error.code}: ${error.message}`)) : resolve(ok);
    });
    sent = sent.then(() => requests.send(JSON.stringify({ verb, rid, ...fields })));
  });
}

async function takeAnswers() {
  for await (const [frame] of requests) {
    const answer = JSON.parse(frame);
    waiting.get(answer.rid)?.(answer);
    waiting.delete(answer.rid);
  }
}

async function follow(id, address) {
  // What is published only rings the bell: the log has every event, in order and once.
  const bell = new Subscriber({ linger: 0, receiveTimeout: 1000 });
  bell.subscribe(`job.${id}`);
  bell.connect(address);
  for (let since = 0; ; ) {
    const { events } = await ask("events", { job_id: id, since });
    for (const event of events) {
      since = event.seq;
      console.log(event.kind, event.job.progress.stage);
      if (FINAL.includes(event.job.state)) {
        bell.close();
        return event.job;
      }
    }
    if (events.length === 0) await bell.receive().catch(() => "a second has passed");
  }
}

takeAnswers();
const { events } = await ask("ping");
const { job } = await ask("submit", { type, params: JSON.parse(params) });
process.on("SIGINT", async () => {
  const { outcome } = await ask("cancel", { id: job.id, reason: "Ctrl-C", by: "node" });
  console.log("cancel:", outcome);
});
const { state } = await follow(job.id, events);
requests.close();
process.exit(state === "completed" ? 0 : 1);
