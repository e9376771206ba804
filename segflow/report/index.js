(() => {
  "use strict";
  const table = document.getElementById("index");
  if (!table) return;
  const tools = document.querySelector('[data-part="index-tools"]');
  const part = (name) => tools.querySelector(`[data-part="${name}"]`);
  const groups = [...table.tBodies];
  const texts = new Map(groups.map((group) => [group, group.textContent.toLowerCase()]));
  const filter = () => {
    const words = part("find").value.toLowerCase().split(/\s+/).filter(Boolean), state = part("state").value;
    let shown = 0;
    for (const group of groups) {
      const keep = (!state || group.dataset.state === state) && words.every((word) => texts.get(group).includes(word));
      group.hidden = !keep;
      shown += keep;
    }
    part("shown").textContent = `${shown} of ${groups.length} scenes`;
  };
  part("find").addEventListener("input", filter);
  part("state").addEventListener("change", filter);
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const numeric = head.dataset.sort === "number";
    const value = (group) => {
      const cell = group.rows[0].cells[column];
      if (!numeric) return cell.textContent.trim();
      return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    };
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const order = before === (numeric ? "descending" : "ascending") ? -1 : 1;
      const sign = (numeric ? -1 : 1) * order;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const sorted = groups.map((group, place) => [value(group), place, group]).sort(([one, a], [two, b]) => {
        if (one === null || two === null) return (one === null) - (two === null) || a - b;
        const by = numeric ? one - two : one.localeCompare(two, undefined, { numeric: true });
        return by * sign || a - b;
      });
      for (const [, , group] of sorted) table.append(group);
    });
  });
  tools.hidden = groups.length < 2;
  filter();
})();
