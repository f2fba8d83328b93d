// Parts of both pages. Names come from databases and files of strangers: they are only ever set as text.

export const byId = (id) => document.getElementById(id);
export const whole = (value) => Math.round(value).toLocaleString("en");

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

export function seconds(value) {
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  if (value < 172800) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

export function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// A live region is read aloud when it changes, so it is only written to when it does.
export function say(place, text, kind) {
  if (place.textContent !== text) place.textContent = text;
  if (kind !== undefined && place.className !== kind) place.className = kind;
}

export function bar(share, label) {
  const made = element("progress");
  made.max = 1;
  if (share !== null) made.value = share;
  made.setAttribute("aria-label", label);
  return made;
}

// Rows of texts; numbers and { text } are set to the right, elements go in as they are.
export function fill(body, rows) {
  body.replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    for (const cell of cells) {
      const data = element("td");
      if (cell instanceof Element) data.append(cell);
      else if (typeof cell === "number") { data.textContent = whole(cell); data.className = "number"; }
      else if (cell !== null && typeof cell === "object") { data.textContent = cell.text; data.className = "number"; }
      else data.textContent = cell === null ? "unknown" : cell;
      row.append(data);
    }
    return row;
  }));
}
