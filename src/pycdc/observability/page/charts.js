// Sparklines of the last two minutes, each with its value and, where it has one, its goal.

import { element } from "./elements.js";

const SECONDS = 120; // that a chart shows
const HEIGHT = 40;

export class Charts {
  constructor(place, heading) {
    this.place = place;
    this.heading = heading;
    this.charts = new Map();
  }

  // `goal` is { text, met, value }: the value of the dashed line, in the unit of `measured`.
  plot(title, format, measured, now, goal) {
    const known = measured !== undefined && measured !== null;
    if (!this.charts.has(title)) {
      if (!known && !goal) return;
      this.charts.set(title, this.made(title));
    }
    const chart = this.charts.get(title);
    if (known) chart.points.push([now, measured]);
    while (chart.points.length && chart.points[0][0] < now - SECONDS) chart.points.shift();
    chart.value.textContent = known ? format(measured) : "unknown";
    const most = Math.max(0, ...chart.points.map((point) => point[1]));
    draw(chart, most, now, goal);
    const met = !goal || goal.met === null ? "" : goal.met ? "met" : "missed";
    chart.goal.textContent = goal ? [`goal ${goal.text}`, met].filter(Boolean).join(", ") : "";
    chart.goal.className = { met: "goal good", missed: "goal bad" }[met] || "goal";
    chart.most.textContent = chart.points.length ? `at most ${format(most)}` : "";
    chart.svg.setAttribute(
      "aria-label",
      [`${title}: ${chart.value.textContent}`, chart.goal.textContent, chart.most.textContent && `${chart.most.textContent} in two minutes`].filter(Boolean).join(", "),
    );
  }

  // What was not plotted at `now` is not known any more.
  forget(titles) {
    for (const [title, chart] of this.charts) {
      if (!titles.has(title)) {
        chart.value.textContent = "unknown";
        chart.goal.className = "goal";
      }
    }
  }

  made(title) {
    const card = element("article", undefined, "card");
    card.append(element(this.heading, title));
    const value = element("p", "–", "value");
    const goal = element("p", "", "goal");
    const svg = shape("svg", { viewBox: `0 0 ${SECONDS} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    const [area, limit, curve] = ["area", "limit", "curve"].map((kind) => shape("path", { class: kind }));
    svg.append(area, limit, curve);
    const scale = element("p", undefined, "scale");
    const most = element("span");
    scale.append(element("span", `${SECONDS / 60} min`), most);
    card.append(value, goal, svg, scale);
    this.place.append(card);
    return { value, goal, svg, area, limit, curve, most, points: [] };
  }
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function draw(chart, most, now, goal) {
  // A goal far above what is measured would press the curve flat: then its line is not shown.
  const limit = goal && goal.value > 0 && goal.value <= most * 4 ? goal.value : null;
  const top = Math.max(most, limit ?? 0) || 1;
  const height = (value) => (HEIGHT - 1 - (value / top) * (HEIGHT - 2)).toFixed(1);
  const across = (time) => (SECONDS - (now - time)).toFixed(1);
  const line = chart.points.map(([time, value]) => `${across(time)} ${height(value)}`).join(" L ");
  const first = chart.points.length ? across(chart.points[0][0]) : 0;
  const last = chart.points.length ? across(chart.points[chart.points.length - 1][0]) : 0;
  chart.area.setAttribute("d", line ? `M ${first} ${HEIGHT} L ${line} L ${last} ${HEIGHT} Z` : "");
  chart.curve.setAttribute("d", line ? `M ${line}` : "");
  chart.limit.setAttribute("d", limit === null ? "" : `M 0 ${height(limit)} H ${SECONDS}`);
}
