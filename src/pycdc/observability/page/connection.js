// Questions to the server that the page came from, with the token that was typed into the page.

import { byId, say, seconds } from "./elements.js";

const PAUSE = 1000; // milliseconds between two looks
const PATIENCE = 5000; // for an answer
let token = sessionStorage.getItem("pycdc-token") || "";
let answeredAt = 0;

export class TokenNeeded extends Error {}

function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function answered(path, options) {
  const answer = await fetch(path, { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(PATIENCE), ...options });
  if (answer.status === 401) throw new TokenNeeded();
  return answer;
}

export async function ask(path) {
  return (await answered(path)).json();
}

export async function askText(path) {
  return (await answered(path)).text();
}

// Returns what went wrong, or null.
export async function send(path, body) {
  const answer = await answered(path, { method: "POST", body: JSON.stringify(body) });
  const said = await answer.json();
  return answer.ok ? null : said;
}

// Calls `look` each second. Where the server does not answer, the page says since when.
export function poll(look) {
  const again = async () => {
    try {
      await look(performance.now() / 1000);
      answeredAt = performance.now() / 1000;
      byId("token-form").hidden = true;
      say(byId("age"), "");
      document.body.classList.remove("stale");
    } catch (error) {
      if (error instanceof TokenNeeded) {
        byId("token-form").hidden = false;
        say(byId("state"), "", "state");
      } else {
        say(byId("state"), "no answer", "state bad");
        say(byId("age"), answeredAt ? `last seen ${seconds(performance.now() / 1000 - answeredAt)} ago` : "");
        document.body.classList.add("stale");
      }
    }
    setTimeout(again, PAUSE);
  };
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = byId("token").value;
    sessionStorage.setItem("pycdc-token", token);
  });
  again();
}
