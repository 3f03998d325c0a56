"use strict";
// Sorts a table by the heading that is clicked (or reached with Tab and pressed), and filters its rows by a text.
(() => {
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // A row's value in a column: data-value where the cell's text would not sort, "" for an empty cell.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
  };

  const sort = (table, heading) => {
    const column = Number(heading.dataset.column);
    const numeric = heading.dataset.kind === "number";
    const before = heading.getAttribute("aria-sort");
    const first = heading.dataset.first || "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = before === first ? other : first;
    const sign = direction === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, value: valueOf(row, column) }));
    rows.sort((a, b) => {
      if (a.value === "" || b.value === "") return (a.value === "") - (b.value === "");  // empty last, either way
      return sign * (numeric ? Number(a.value) - Number(b.value) : collator.compare(a.value, b.value));
    });
    body.append(...rows.map((entry) => entry.row));
    for (const each of table.querySelectorAll("th[aria-sort]")) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
  };

  // Heard on the page, so that a table that comes later is sorted as well.
  document.addEventListener("click", (event) => {
    const heading = event.target.closest("table.sortable th[data-column]");
    if (heading && event.target.closest("button")) sort(heading.closest("table"), heading);
  });

  document.addEventListener("input", ({ target: input }) => {
    const table = input.dataset.filters && document.getElementById(input.dataset.filters);
    if (!table) return;
    const count = document.getElementById(`${input.dataset.filters}-count`);
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${table.tBodies[0].rows.length}` : "";
  });
})();
