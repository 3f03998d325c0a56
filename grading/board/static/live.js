"use strict";
// Renews the parts of a page when the board says that something has changed. Forms stay as they are.
(() => {
  const source = document.body.dataset.live;
  if (!source || !window.EventSource) return;
  let loading = false;
  let again = false;

  const sorted = () => {
    const heading = document.querySelector("table.sortable th[aria-sort]");
    return heading && { column: heading.dataset.column, direction: heading.getAttribute("aria-sort") };
  };

  const restore = (before) => {
    if (!before) return;
    const heading = () => document.querySelector(`table.sortable th[data-column="${before.column}"]`);
    for (let tries = 0; tries < 2 && heading() && heading().getAttribute("aria-sort") !== before.direction; tries += 1) {
      heading().querySelector("button").click();
    }
  };

  const renew = async () => {
    if (loading) { again = true; return; }
    loading = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const before = sorted();
      const focus = document.activeElement;
      for (const part of document.querySelectorAll("[data-part]")) {
        const fresh = page.querySelector(`[data-part="${part.dataset.part}"]`);
        const typing = focus.matches("input, textarea") && part.contains(focus);
        if (fresh && !typing) part.replaceWith(fresh);
      }
      restore(before);
      const column = focus.isConnected ? null : focus.closest("th[data-column]");
      if (column) document.querySelector(`th[data-column="${column.dataset.column}"] button`)?.focus();
    } catch (error) {
      // The server is away; the next event, after EventSource has found it again, renews the page.
    } finally {
      loading = false;
      if (again) { again = false; renew(); }
    }
  };

  // What the page shows is of this version; the stream begins with the newest, so nothing in between is missed.
  let version = Number(document.body.dataset.version);
  new EventSource(source).addEventListener("changed", (event) => {
    if (Number(event.data) <= version) return;
    version = Number(event.data);
    renew();
  });
})();
