// The state of one pipeline, asked for once a second.

import { Charts } from "./charts.js";
import { ask, poll } from "./connection.js";
import { bar, byId, bytes, element, fill, say, seconds, whole } from "./elements.js";

const AVERAGED = 5; // seconds that a rate is the average of
const charts = new Charts(byId("charts"), "h2");
const looks = []; // of the last AVERAGED seconds

function table(id, rows) {
  byId(id).hidden = rows.length === 0;
  fill(byId(id).querySelector("tbody"), rows);
}

function list(counts) {
  return Object.entries(counts || {}).sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
}

function problemsOf(status, health) {
  const outages = (status.outages || []).map((one) => `${one.what}: ${one.reason}, for ${seconds(one.seconds)}. ${one.hint}`);
  const refused = Object.entries(status.refused_schemas || {}).map(([table, why]) => `${table}: the registry refuses its schema: ${why}`);
  const halted = Object.entries(status.halted || {}).map(([topic, why]) => `${topic} is not read: ${why}`);
  const slot = status.slot && status.slot.over_budget ? ["The slot holds back more WAL than its budget."] : [];
  return [...health.reasons, ...outages, ...refused, ...halted, ...slot];
}

function conflictsOf(status) {
  const rows = [];
  for (const [table, kinds] of Object.entries(status.conflicts || {}))
    for (const [kind, decisions] of Object.entries(kinds))
      for (const [decision, count] of Object.entries(decisions)) rows.push([table, kind, decision, count]);
  return rows;
}

function showSlot(slot) {
  byId("slot").hidden = !slot;
  if (!slot) return;
  const facts = [["state", slot.state], ["WAL held back", bytes(slot.retained_bytes)]];
  if (slot.safe_bytes !== undefined) facts.push(["until it is lost", bytes(slot.safe_bytes)]);
  if (slot.full_in_seconds !== undefined) facts.push(["full at this rate in", seconds(slot.full_in_seconds)]);
  byId("slot").querySelector("dl").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function show(status, health, now) {
  say(byId("name"), status.name || "pycdc");
  document.title = `${status.name || "pycdc"}: ${status.state}`;
  say(
    byId("state"),
    health.healthy ? status.state : `${status.state}, not healthy`,
    `state ${health.healthy ? (status.state === "streaming" ? "good" : "warn") : "bad"}`,
  );
  byId("migration").hidden = !status.migration;
  const problems = problemsOf(status, health);
  byId("problems").hidden = problems.length === 0;
  byId("problems").querySelector("ul").replaceChildren(...problems.map((text) => element("li", text)));
  while (looks.length && looks[0].now < now - AVERAGED - 0.5) looks.shift();
  const [before] = looks;
  const rate = (count, last) => (before && count >= last ? (count - last) / (now - before.now) : undefined);
  charts.plot("changes a second", whole, before ? rate(status.events, before.status.events) : 0, now);
  charts.plot("lag", seconds, status.lag_seconds, now);
  charts.plot("WAL behind", bytes, status.lag_bytes, now);
  showSlot(status.slot);
  table("snapshot", (status.snapshot || []).map((one) => [
    one.table,
    one.rows,
    one.finished ? "finished" : bar(one.estimated > 0 ? Math.min(1, one.rows / one.estimated) : null, `snapshot of ${one.table}`),
  ]));
  const last = before ? before.status.events_by_table || {} : {};
  table("tables", list(status.events_by_table).slice(0, 50).map(([table, count]) => [table, count, rate(count, last[table] || 0) ?? null]));
  table("partitions", Object.entries(status.partitions || {}).map(([name, place]) => [name, place.next, place.lag_records, { text: place.lag_seconds === null ? "unknown" : seconds(place.lag_seconds) }]));
  table("parked", [...list(status.parked), ...list(status.parked_rows).map(([table, count]) => [`schema of ${table} refused`, count])]);
  table("conflicts", conflictsOf(status));
  looks.push({ status, now });
}

poll(async () => {
  const [status, health] = await Promise.all([ask("status"), ask("healthz")]);
  show(status, health, performance.now() / 1000);
});
