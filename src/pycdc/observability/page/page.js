"use strict";
// The state of one pipeline, asked for once a second. Names come from databases: they are only ever set as text.

const SECONDS = 120; // that a chart shows
const AVERAGED = 5; // seconds that a rate is the average of
const charts = new Map();
const looks = []; // of the last AVERAGED seconds
let token = sessionStorage.getItem("pycdc-token") || "";
let answeredAt = 0;

const byId = (id) => document.getElementById(id);
const whole = (value) => Math.round(value).toLocaleString("en");

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

function seconds(value) {
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value < 172800) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function chartOf(title, format) {
  const card = element("article", undefined, "card");
  card.append(element("h2", title));
  const value = element("p", "–", "value");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${SECONDS} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  for (const kind of ["area", "curve"]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", kind);
    svg.append(path);
  }
  const scale = element("p", undefined, "scale");
  scale.append(element("span", `last ${SECONDS / 60} min`), element("span"));
  card.append(value, svg, scale);
  byId("charts").append(card);
  return { title, format, value, svg, most: scale.lastChild, points: [] };
}

function plot(title, format, measured, now) {
  if (!charts.has(title)) {
    if (measured === undefined || measured === null) return;
    charts.set(title, chartOf(title, format));
  }
  const chart = charts.get(title);
  const known = measured !== undefined && measured !== null;
  if (known) chart.points.push([now, measured]);
  while (chart.points.length && chart.points[0][0] < now - SECONDS) chart.points.shift();
  chart.value.textContent = known ? format(measured) : "unknown";
  const most = Math.max(0, ...chart.points.map((point) => point[1]));
  const at = ([time, value]) => `${(SECONDS - (now - time)).toFixed(1)} ${(39 - (most ? value / most : 0) * 38).toFixed(1)}`;
  const line = chart.points.map(at).join(" L ");
  const first = chart.points.length ? SECONDS - (now - chart.points[0][0]) : 0;
  chart.svg.children[0].setAttribute("d", line ? `M ${first.toFixed(1)} 40 L ${line} L ${SECONDS} 40 Z` : "");
  chart.svg.children[1].setAttribute("d", line ? `M ${line}` : "");
  chart.svg.setAttribute("aria-label", `${title}: ${chart.value.textContent}, at most ${format(most)} in two minutes`);
  chart.most.textContent = `at most ${format(most)}`;
}

// Rows of texts; numbers and { text } are set to the right, { progress } becomes a bar.
function fill(id, rows) {
  const section = byId(id);
  section.hidden = rows.length === 0;
  section.querySelector("tbody").replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    for (const cell of cells) {
      if (typeof cell === "number") row.append(element("td", whole(cell), "number"));
      else if (cell !== null && cell.text !== undefined) row.append(element("td", cell.text, "number"));
      else if (cell !== null && typeof cell === "object") {
        const bar = element("progress");
        bar.max = 1;
        if (cell.progress !== null) bar.value = cell.progress;
        bar.setAttribute("aria-label", cell.label);
        const data = element("td");
        data.append(bar);
        row.append(data);
      } else row.append(element("td", cell === null ? "unknown" : cell));
    }
    return row;
  }));
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
  byId("name").textContent = status.name || "pycdc";
  document.title = `${status.name || "pycdc"}: ${status.state}`;
  const state = byId("state");
  state.textContent = health.healthy ? status.state : `${status.state}, not healthy`;
  state.className = `state ${health.healthy ? (status.state === "streaming" ? "good" : "warn") : "bad"}`;
  const problems = problemsOf(status, health);
  byId("problems").hidden = problems.length === 0;
  byId("problems").querySelector("ul").replaceChildren(...problems.map((text) => element("li", text)));
  while (looks.length && looks[0].now < now - AVERAGED - 0.5) looks.shift();
  const [before] = looks;
  const rate = (count, last) => (before && count >= last ? (count - last) / (now - before.now) : undefined);
  plot("changes a second", whole, before ? rate(status.events, before.status.events) : 0, now);
  plot("lag", seconds, status.lag_seconds, now);
  plot("WAL behind", bytes, status.lag_bytes, now);
  showSlot(status.slot);
  fill("snapshot", (status.snapshot || []).map((one) => [
    one.table,
    one.rows,
    one.finished ? "finished" : { progress: one.estimated > 0 ? Math.min(1, one.rows / one.estimated) : null, label: `snapshot of ${one.table}` },
  ]));
  const last = before ? before.status.events_by_table || {} : {};
  fill("tables", list(status.events_by_table).slice(0, 50).map(([table, count]) => [table, count, rate(count, last[table] || 0) ?? null]));
  fill("partitions", Object.entries(status.partitions || {}).map(([name, place]) => [name, place.next, place.lag_records, { text: place.lag_seconds === null ? "unknown" : seconds(place.lag_seconds) }]));
  fill("parked", [...list(status.parked), ...list(status.parked_rows).map(([table, count]) => [`schema of ${table} refused`, count])]);
  fill("conflicts", conflictsOf(status));
  looks.push({ status, now });
}

async function ask(path) {
  const answer = await fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
  if (answer.status === 401) throw new Error("token");
  return answer.json();
}

async function look() {
  try {
    const [status, health] = await Promise.all([ask("status"), ask("healthz")]);
    answeredAt = performance.now() / 1000;
    byId("token-form").hidden = true;
    byId("age").textContent = "";
    show(status, health, answeredAt);
  } catch (error) {
    if (error.message === "token") {
      byId("token-form").hidden = false;
      byId("state").textContent = "";
    } else {
      const state = byId("state");
      state.textContent = "no answer";
      state.className = "state bad";
      byId("age").textContent = answeredAt ? `last seen ${seconds(performance.now() / 1000 - answeredAt)} ago` : "";
    }
  }
  setTimeout(look, 1000);
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  sessionStorage.setItem("pycdc-token", token);
});
look();
