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
  tools.hidden = groups.length < 2;
  filter();
})();
