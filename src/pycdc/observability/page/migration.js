// A migration: where each group stands, what holds it up, and the commands that lead on. Asked for once a second.
// What can have the focus is made once and changed in place: nobody loses it to an update.

import { Charts } from "./charts.js";
import { ask, askText, poll, send } from "./connection.js";
import { bar, byId, element, fill, say, seconds, whole } from "./elements.js";

const OLD = 15; // seconds after which a stage is not known any more
const PAUSED = ["fenced", "drained", "verified"];
const LABELS = { start: "Start", advance: "Advance", "roll-back": "Roll back", close: "Close" };
const DIRECTIONS = { forward: "old to new", back: "new to old" };
const groups = new Map();
const routes = new Map();
const facadeCharts = new Charts(byId("facade-charts"), "h3");

const FORMATS = {
  seconds,
  records: whole,
  rows: whole,
  percent: (value) => `${whole(value)} %`,
  ratio: (value) => `${(value * 100).toFixed(2)} %`,
};

function plot(charts, figures, now) {
  for (const one of figures) {
    const format = FORMATS[one.unit];
    const text = one.goal === null ? "" : `${one.unit === "percent" || one.goal === 0 ? "" : "≤ "}${format(one.goal)}`;
    const goal = one.goal === null ? undefined : { text, met: one.met, value: one.unit === "percent" ? 0 : one.goal };
    charts.plot(one.name, format, one.value, now, goal);
  }
  charts.forget(new Set(figures.map((one) => one.name)));
}

function button(text, kind, act) {
  const made = element("button", text, kind);
  made.type = "button";
  made.addEventListener("click", () => { if (made.getAttribute("aria-disabled") !== "true") act(); });
  return made;
}

// Asks before what holds writes or cannot be taken back. Escape and "Leave it" leave it.
function confirmed(title, text, yes) {
  const dialog = byId("question");
  byId("question-title").textContent = title;
  byId("question-text").textContent = text;
  byId("question-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  byId("question-no").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}
byId("question-no").addEventListener("click", () => byId("question").close(""));
byId("question-yes").addEventListener("click", () => byId("question").close("yes"));

function card(heading) {
  const made = element("section", undefined, "card");
  made.append(element("h3", heading));
  return made;
}

class GroupView {
  constructor(group, stages) {
    this.name = group.group;
    this.root = element("article", undefined, "group");
    this.heading = element("h2", group.group);
    this.heading.tabIndex = -1;
    this.owner = element("p", "", "quiet");
    const head = element("header");
    this.tables = element("p", "", "quiet");
    head.append(this.heading, this.owner, this.tables);
    this.steps = element("ol", undefined, "steps");
    this.steps.setAttribute("aria-label", `stages of ${group.group}`);
    this.steps.append(...stages.map((stage) => element("li", stage)));
    this.notes = element("ul", undefined, "notes");
    this.commands = this.commandsCard();
    this.charts = element("section", undefined, "charts small");
    this.charts.setAttribute("aria-label", `figures of ${group.group}`);
    this.plotted = new Charts(this.charts, "h3");
    this.gates = card("Gates");
    this.gatesTold = element("p", "", "quiet");
    this.gatesList = element("ul", undefined, "gates");
    this.gates.append(this.gatesTold, this.gatesList);
    this.reports = card("Last verification");
    this.ways = new Map();
    this.root.append(head, this.steps, this.notes, this.commands, this.charts, this.gates, this.reports);
    byId("groups").append(this.root);
  }

  commandsCard() {
    const made = element("section", undefined, "card commands");
    made.setAttribute("aria-label", `commands of ${this.name}`);
    this.plan = element("p");
    this.buttons = Object.fromEntries(Object.entries(LABELS).map(([command, text]) =>
      [command, button(text, command === "roll-back" || command === "close" ? "plain" : "", () => this.give(command))]));
    this.row = element("div", undefined, "row");
    this.row.append(...Object.values(this.buttons));
    this.told = element("p");
    this.told.setAttribute("role", "status");
    this.clock = element("span", "", "quiet");
    this.said = element("ol", undefined, "said");
    made.append(this.plan, this.row, this.told, this.clock, this.said);
    return made;
  }

  async give(command) {
    const question = this.question(command);
    if (question && !(await confirmed(`${LABELS[command]} ${this.name}?`, question, LABELS[command]))) return;
    this.busy(true);
    const now = command === "close" && this.group.rollback_seconds > 0;
    const refused = await send(`migration/groups/${encodeURIComponent(this.name)}/${command}`, now ? { now } : {}).catch(() => ({ error: "the server does not answer" }));
    this.refused = refused ? [refused.error, refused.hint].filter(Boolean).join(": ") : "";
    if (refused) this.tell(this.group.command);
  }

  question(command) {
    const { stage, max_pause: pause, rollback_seconds: left, owner } = this.group;
    const held = `Writes are held for ${seconds(pause)} at most.`;
    if (command === "advance" && stage === "ready") return `Writes go to the new system. ${held}`;
    if (command === "roll-back") return `Reads and writes go to the old system. ${owner === "new" ? held : ""}`;
    if (command === "close") return `There is no way back any more. ${left > 0 ? `The rollback window lasts ${seconds(left)} more.` : ""}`;
    return "";
  }

  busy(is) {
    for (const one of Object.values(this.buttons)) one.setAttribute("aria-disabled", String(is));
  }

  show(group, acts, now) {
    this.group = group;
    const known = group.read_seconds_ago !== null && group.read_seconds_ago < OLD;
    this.showSteps(known ? group.stage : undefined, group.direction);
    say(this.owner, this.ownerOf(group, known));
    say(this.tables, group.tables.map((one) => `${one.old}${one.columns.length ? ` (${one.columns.join(", ")})` : ""} → ${one.new}`).join(", "));
    const notes = [
      ...(known ? [] : [group.read_seconds_ago === null ? "The stage was not read yet." : `The stage was not read for ${seconds(group.read_seconds_ago)}.`]),
      ...(group.failure ? [`The stage cannot be read: ${group.failure}`] : []),
      ...(group.note ? [`Stepped back: ${group.note}`] : []),
    ];
    this.notes.replaceChildren(...notes.map((text) => element("li", text)));
    say(this.plan, known ? `Next: ${group.plan}.` : "");
    this.row.hidden = !acts;
    this.offer(acts && known ? group.commands : []);
    this.tell(group.command);
    plot(this.plotted, group.figures, now);
    this.showGates(group);
    this.showReports(group.verifications);
  }

  ownerOf(group, known) {
    if (!known) return "";
    if (group.stage === null) return "not started";
    const paused = PAUSED.includes(group.stage) ? "Writes are held" : `The ${group.owner} system writes`;
    return group.direction === "back" ? `${paused}, on the way back.` : `${paused}.`;
  }

  showSteps(stage, direction) {
    const steps = [...this.steps.children];
    const at = steps.findIndex((one) => one.textContent === stage);
    steps.forEach((step, index) => {
      const kind = at < 0 || index > at ? "" : index < at ? "done" : "now";
      if (step.className !== kind) step.className = kind;
      if (kind === "now") step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    });
    this.steps.classList.toggle("back", direction === "back");
  }

  offer(commands) {
    for (const [command, one] of Object.entries(this.buttons)) {
      const hides = !commands.includes(command);
      if (hides && one === document.activeElement) this.heading.focus();
      one.hidden = hides;
    }
  }

  tell(given) {
    this.busy(Boolean(given && given.runs));
    if (given && given.runs) this.refused = "";
    if (this.refused) say(this.told, this.refused, "bad");
    else if (!given) say(this.told, "");
    else if (given.runs) say(this.told, `${LABELS[given.command]} is under way.`, "");
    else if (given.error) say(this.told, `${LABELS[given.command]}: ${given.error}. ${given.hint}`, "bad");
    else say(this.told, `${LABELS[given.command]}: ${given.stage}.`, "good");
    say(this.clock, given ? seconds(given.seconds) : "");
    const said = given ? given.said : [];
    if (this.said.childElementCount !== said.length) this.said.replaceChildren(...said.map((text) => element("li", text)));
  }

  showGates({ gates, open, asked_seconds_ago: ago }) {
    const closed = gates.filter((gate) => !gate.open).length;
    const when = ago === null ? "" : `, asked ${seconds(ago)} ago`;
    say(this.gatesTold, `${open ? "All are open" : `${closed} of ${gates.length} are closed`}${when}.`);
    this.gatesList.replaceChildren(...[...gates].sort((one, other) => one.open - other.open).map((gate) => {
      const item = element("li");
      item.append(
        element("span", gate.open ? "open" : "closed", `mark ${gate.open ? "good" : "bad"}`),
        element("strong", gate.gate),
        element("span", gate.reason),
      );
      return item;
    }));
  }

  showReports(verifications) {
    this.reports.hidden = verifications.length === 0;
    for (const one of verifications) {
      if (!this.ways.has(one.direction)) this.ways.set(one.direction, this.wayOf(one));
      const { verdict, told, body } = this.ways.get(one.direction);
      const rows = one.tables.reduce((sum, table) => sum + table.rows, 0);
      const differences = one.tables.reduce((sum, table) => sum + table.differences, 0);
      say(verdict, one.equal ? "equal" : differences ? `${whole(differences)} differences` : "not compared", `mark ${one.equal ? "good" : "bad"}`);
      say(told, `${DIRECTIONS[one.direction]}, ${one.pipeline}: ${whole(rows)} rows in ${seconds(one.seconds)}, ${new Date(one.started).toLocaleString()}${one.exact ? "" : ", not exact"}`);
      fill(body, one.tables.map((table) => [table.table, table.rows, table.in_flight, table.problem ? `not compared: ${table.problem}` : table.differences]));
    }
  }

  wayOf({ direction }) {
    const verdict = element("span");
    const told = element("span");
    const link = element("a", "report");
    link.href = `migration/groups/${encodeURIComponent(this.name)}/reports/${direction}`;
    link.target = "_blank";
    link.setAttribute("aria-label", `report of the verification from ${DIRECTIONS[direction]}`);
    // A link sends no token: the page asks for the report, and opens what it got.
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      const text = await askText(link.getAttribute("href"));
      window.open(URL.createObjectURL(new Blob([text], { type: "text/html" })), "_blank");
    });
    const line = element("p", undefined, "line");
    line.append(verdict, told, link);
    const table = element("table");
    const head = element("tr");
    for (const [text, kind] of [["table", ""], ["rows", "number"], ["in flight", "number"], ["differences", "number"]]) {
      const cell = element("th", text, kind);
      cell.scope = "col";
      head.append(cell);
    }
    const top = element("thead");
    top.append(head);
    const body = element("tbody");
    table.append(top, body);
    this.reports.append(line, table);
    return { verdict, told, body };
  }
}

class RouteView {
  constructor(route, steps) {
    this.root = element("div", undefined, "route");
    this.told = element("p");
    this.share = bar(0, `share of ${route.route} at the new system`);
    this.root.append(element("h3", `${route.route}: ${route.methods.join(", ")} ${route.path}`), this.share, this.told);
    this.share.hidden = !route.reads;
    this.row = element("div", undefined, "row");
    this.row.setAttribute("role", "group");
    this.row.setAttribute("aria-label", `weight of ${route.route}`);
    this.buttons = route.reads ? steps.map((percent) => [percent, button(`${percent} %`, "plain", () => this.give(route.route, percent))]) : [];
    this.row.append(...this.buttons.map(([, one]) => one));
    this.root.append(this.row);
    byId("facade-routes").append(this.root);
  }

  async give(route, percent) {
    const refused = await send(`migration/facade/${encodeURIComponent(route)}`, { percent }).catch(() => ({ error: "the server does not answer" }));
    say(byId("facade-refused"), refused ? [refused.error, refused.hint].filter(Boolean).join(": ") : "");
  }

  show(route, acts) {
    const reason = route.reason ? ` (${route.reason})` : "";
    if (route.reads) {
      this.share.value = route.percent / 100;
      const way = route.target === route.percent ? "" : `, on the way to ${route.target} %`;
      say(this.told, `${route.percent} % at ${route.to}${way}${reason}`);
    } else say(this.told, route.held ? "Writes are held." : `Writes go to ${route.percent ? route.to : "old"}.`);
    this.row.hidden = !acts || !route.reads;
    for (const [percent, one] of this.buttons) one.setAttribute("aria-pressed", String(percent === route.target));
  }
}

function showFacade(facade, acts, now) {
  byId("facade").hidden = !facade;
  if (!facade) return;
  say(byId("facade-note"), facade.failure || `${facade.listen}${facade.runs ? "" : ": no Envoy answers. Weights hold from its start on."}`);
  if (facade.failure) return;
  for (const route of facade.routes) {
    if (!routes.has(route.route)) routes.set(route.route, new RouteView(route, facade.steps));
    routes.get(route.route).show(route, acts);
  }
  plot(facadeCharts, facade.figures, now);
}

poll(async (now) => {
  const found = await ask("migration.json");
  const closed = found.groups.filter((group) => !group.open);
  say(byId("state"), closed.length ? `gates are closed: ${closed.map((group) => group.group).join(", ")}` : "all gates are open", `state ${closed.length ? "bad" : "good"}`);
  document.title = found.groups.map((group) => `${group.group}: ${group.stage || "not started"}`).join(", ") || "migration";
  byId("read-only").hidden = found.acts;
  for (const group of found.groups) {
    if (!groups.has(group.group)) groups.set(group.group, new GroupView(group, found.stages));
    groups.get(group.group).show(group, found.acts, now);
  }
  showFacade(found.facade, found.acts, now);
});
