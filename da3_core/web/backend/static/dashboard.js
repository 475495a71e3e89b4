// SPDX-License-Identifier: Apache-2.0
// Keeps the dashboard as the backend says it now, and cancels tasks. What is shown is written by the backend alone.

const INTERVAL_MS = 2000;
const element = (id) => document.getElementById(id);
const say = (text) => { element("message").textContent = text; };

async function refresh() {
  try {
    const response = await fetch("dashboard");
    if (!response.ok) throw new Error(response.statusText);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const [now, next] = [element("live"), page.getElementById("live")];
    if (now.innerHTML !== next.innerHTML) {
      const focused = document.activeElement?.id;
      now.replaceWith(document.adoptNode(next));
      if (focused) element(focused)?.focus();
    }
    say("");
  } catch {
    say("The backend does not answer; this is what it said last.");
  }
}

document.addEventListener("click", async ({ target }) => {
  const { task } = target.dataset;
  if (!task) return;
  target.disabled = true;
  try {
    await fetch(`task/${task}`, { method: "DELETE" });
  } finally {
    await refresh();
  }
});

setInterval(() => { if (!document.hidden) refresh(); }, INTERVAL_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
