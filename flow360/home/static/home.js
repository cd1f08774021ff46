// Keeps home fresh while somebody looks at it, and passes clicks on: to the server, the clipboard, JupyterLab.
"use strict";

const { address } = document.body.dataset;
const main = document.querySelector("main");
const said = document.getElementById("said");
let chapter = new URLSearchParams(location.search).get("chapter") || "";
let timer = 0;

function say(text) {
  said.textContent = text;
}

// Each part is replaced only where it differs, so that a reader's place, an open list and the focus stay.
function draw(text) {
  const news = new DOMParser().parseFromString(`<main>${text}</main>`, "text/html").querySelector("main");
  const open = new Set([...main.querySelectorAll("details[open]")].map((one) => one.id));
  news.querySelectorAll("details").forEach((one) => (one.open = open.has(one.id)));
  const focus = document.activeElement?.id;
  const before = new Map([...main.children].map((part) => [part.id, part]));
  const parts = [...news.children].map((part) => {
    const old = before.get(part.id);
    return old && old.outerHTML === part.outerHTML ? old : document.importNode(part, true);
  });
  if (parts.some((part, at) => part !== main.children[at]) || parts.length !== main.children.length) {
    main.replaceChildren(...parts);
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
    const log = main.querySelector("#work pre");
    if (log) log.scrollTop = log.scrollHeight;
  }
}

// One look at a time is due, however many were under way: a click and a tab that comes back ask, too.
function again(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(refresh, milliseconds);
}

// With the cookie's mark in each question: JupyterHub's JupyterLab answers none without it, not even one that only reads.
function ask(what, options) {
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]+)/)?.[1] || "";
  return fetch(`${address}/${what}`, { ...options, headers: { "Content-Type": "application/json", "X-XSRFToken": decodeURIComponent(xsrf) } });
}

async function refresh() {
  if (document.hidden || !main.offsetParent) {
    again(1000); // a tab of JupyterLab that is behind another one
    return;
  }
  const asked = chapter;
  try {
    const answer = await ask(`now?chapter=${encodeURIComponent(asked)}`, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.status === 403 ? "JupyterLab asks for its token again" : await answer.text());
    const text = await answer.text();
    if (asked === chapter) draw(text); // else somebody has chosen another one meanwhile
    if (said.dataset.lost) say("");
    delete said.dataset.lost;
  } catch (error) {
    said.dataset.lost = "yes";
    say(error instanceof TypeError || error.name === "TimeoutError" ? "JupyterLab does not answer: this page is as it was before." : error.message);
  }
  const soon = main.querySelector("#work .starting") || main.textContent.includes(" …");
  again(soon ? 1000 : 5000);
}

async function send(what, body) {
  const answer = await ask(what, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.status === 204 ? null : answer.json();
}

async function copy(button) {
  const { password } = await send("password", { name: button.dataset.copy });
  try {
    await navigator.clipboard.writeText(password);
    say("Copied.");
  } catch {
    // A browser that lets no page write: the person copies it, as long as the field has the focus.
    const field = Object.assign(document.createElement("input"), { value: password, readOnly: true, size: 30 });
    field.setAttribute("aria-label", "the password, to be copied");
    field.addEventListener("blur", () => field.remove());
    button.after(field);
    field.select();
  }
}

document.addEventListener("click", async (event) => {
  const one = event.target.closest("[data-run], [data-copy], [data-open], [data-chapter]");
  if (!one || event.ctrlKey || event.metaKey || event.shiftKey) return;
  try {
    if (one.dataset.open && window.parent !== window) {
      event.preventDefault();
      window.parent.postMessage({ flow360: "open", paths: JSON.parse(one.dataset.open) }, location.origin);
    } else if (one.dataset.chapter) {
      event.preventDefault();
      chapter = one.dataset.chapter;
      await refresh();
    } else if (one.dataset.copy) {
      await copy(one);
    } else if (one.dataset.run) {
      say("");
      await send("run", { verb: one.dataset.run, name: one.dataset.name });
      await refresh();
    }
  } catch (error) {
    say(error.message);
  }
});

document.addEventListener("visibilitychange", refresh);
again(1000);
