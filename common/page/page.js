// Switches, opacity and tabs of the results. `element` is the component that holds them; its content changes with every
// run, so it is the component that listens. What the user has set stays as it is when another picture is looked at.
const stages = (name) => element.querySelectorAll(`[data-layer="${CSS.escape(name)}"]`);

function show(name, on) {
    for (const layer of stages(name)) layer.classList.toggle("rb-off", !on);
    for (const box of element.querySelectorAll(`[data-switch="${CSS.escape(name)}"]`)) box.checked = on;
}

element.addEventListener("input", ({ target }) => {
    if (target.dataset.switch !== undefined) {
        const on = target.checked;
        // Two maps of saliency on one another cannot be read.
        if (on && target.dataset.heat !== undefined) {
            for (const box of element.querySelectorAll("[data-heat]")) show(box.dataset.switch, false);
        }
        show(target.dataset.switch, on);
    }
    if (target.dataset.opacity !== undefined) {
        element.querySelector(".rb-results").style.setProperty("--rb-opacity", target.value / 100);
        for (const slider of element.querySelectorAll("[data-opacity]")) {
            slider.value = target.value;
            slider.nextElementSibling.textContent = `${target.value}%`;
        }
    }
});

element.addEventListener("click", ({ target }) => {
    const chosen = target.closest("[data-show]");
    if (!chosen) return;
    for (const tab of element.querySelectorAll("[data-show]")) tab.setAttribute("aria-selected", tab === chosen);
    for (const card of element.querySelectorAll("[data-card]")) card.hidden = card.dataset.card !== chosen.dataset.show;
});
