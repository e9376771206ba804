(() => {
  "use strict";
  const tools = document.querySelector(".tools");
  if (!tools) return;
  for (const panels of document.querySelectorAll(".panels")) {
    const input = panels.querySelector('[data-kind="input"] img');
    for (const panel of panels.querySelectorAll(".panel")) {
      const over = panel.querySelector("img");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "stack";
      button.style.cssText = over.parentElement.style.cssText;
      button.setAttribute("aria-pressed", "false");
      button.title = "Enlarge";
      over.parentElement.replaceWith(button);
      button.append(over);
      if (panel.dataset.kind !== "input") {
        const under = new Image();
        under.src = input.src;
        under.alt = "";
        under.className = "under";
        button.prepend(under);
        over.className = "over";
      }
      button.addEventListener("click", () => {
        const large = panels.classList.toggle("large");
        for (const each of panels.querySelectorAll("button")) each.setAttribute("aria-pressed", String(large));
        button.scrollIntoView({ block: "nearest" });
      });
    }
  }
  tools.hidden = false;
  const opacity = tools.querySelector("input");
  const apply = () => {
    document.documentElement.style.setProperty("--opacity", String(opacity.value / 100));
    document.documentElement.classList.toggle("mixed", opacity.value < 100);
  };
  opacity.addEventListener("input", apply);
  apply();
})();
