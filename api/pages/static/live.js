// A page with [data-live] listens for events and, when there are any, fetches itself again and puts its changed parts in their places.
// Parts are [data-live] and [data-part], by their id. A part that holds the focus or a ticked box is left alone until it is let go.
(() => {
  const listening = document.querySelector("[data-live], [data-poll]");
  if (!listening) return;
  const WAIT = 1000; // ms between two fetches
  let source = null, wanted = false, busy = false;

  const held = (part) => (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) || part.querySelector("input:checked");

  const swap = (fresh) => {
    for (const part of document.querySelectorAll("[data-live][id], [data-poll][id], [data-part][id]")) {
      const other = fresh.getElementById(part.id);
      if (!other || other.innerHTML === part.innerHTML || held(part)) continue;
      const open = [...part.querySelectorAll("details")].map((each) => each.open);
      const focus = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      part.innerHTML = other.innerHTML;
      [...part.querySelectorAll("details")].forEach((each, at) => { if (at in open) each.open = open[at]; });
      if (focus) [...part.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === focus)?.focus({preventScroll: true});
    }
    // Sections that were not there before, such as the timeline of a study that had not started.
    let before = null;
    for (const each of [...fresh.querySelectorAll("main > section[id]")]) {
      if (!document.getElementById(each.id)) {
        if (before) before.after(document.adoptNode(each)); else document.querySelector("main").append(document.adoptNode(each));
      }
      before = document.getElementById(each.id);
    }
    document.dispatchEvent(new Event("fresh"));
  };

  const fetchAgain = async () => {
    if (busy) { wanted = true; return; }
    busy = true; wanted = false;
    try {
      const answer = await fetch(location.href, {headers: {Accept: "text/html"}});
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* the service is away; the next event comes when it is back */ }
    setTimeout(() => { busy = false; if (wanted) fetchAgain(); }, WAIT);
  };

  // A hidden tab holds no connection: browsers open only six to a host.
  const start = () => {
    if (source || document.hidden) return;
    source = new EventSource(listening.dataset.live);
    source.addEventListener("changed", fetchAgain);
  };
  const stop = () => { source?.close(); source = null; };
  if (listening.dataset.live) {
    document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else { start(); fetchAgain(); } });
    addEventListener("pagehide", stop);
    start();
  } else {
    setInterval(() => { if (!document.hidden) fetchAgain(); }, 1000 * listening.dataset.poll);
  }
})();
