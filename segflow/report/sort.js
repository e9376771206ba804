(() => {
  "use strict";
  const plain = /^[<>]?\s*([+−-]?[\d,]*\.?\d+)/;
  const number = (cell) => {
    if (!cell) return null;
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const found = plain.exec(cell.textContent.trim());
    return found ? Number(found[1].replace("−", "-").replaceAll(",", "")) : null;
  };
  for (const table of document.querySelectorAll("table.sorts")) {
    // A row, or a row with what is told of it: a body of its own.
    const several = table.tBodies.length > 1;
    const items = several ? [...table.tBodies] : [...table.tBodies[0].rows];
    if (items.length < 2) continue;
    const row = (item) => (several ? item.rows[0] : item);
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.tagName !== "TH") return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      const numeric = column > 0 && !head.classList.contains("text");
      const value = (item) => (numeric ? number(row(item).cells[column]) : row(item).cells[column].textContent.trim());
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const first = numeric ? "descending" : "ascending";
        const now = before === first ? (numeric ? "ascending" : "descending") : first;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", now);
        const sign = now === "ascending" ? 1 : -1;
        const sorted = items.map((item, place) => [value(item), place, item]).sort(([one, a], [two, b]) => {
          if (one === null || two === null) return (one === null) - (two === null) || a - b;
          const by = numeric ? one - two : one.localeCompare(two, undefined, { numeric: true });
          return by * sign || a - b;
        });
        for (const [, , item] of sorted) item.parentElement.append(item);
      });
    });
  }
})();
