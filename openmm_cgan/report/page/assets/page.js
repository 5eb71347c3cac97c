"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const base = {
    font: { family: "system-ui, sans-serif", size: 12, color: "#1b2a41" }, autosize: true,
    margin: { l: 60, r: 16, t: 34, b: 46 }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", legend: { orientation: "h", y: -0.2 }, hovermode: "closest",
    modebar: { bgcolor: "rgba(255,255,255,0.8)", color: "#aab4c0", activecolor: "#1b2a41" },
  };
  const axis = { gridcolor: "#eceff2", zerolinecolor: "#d5dbe1", automargin: true };
  const config = { responsive: true, displaylogo: false, displayModeBar: "hover",
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };

  const draw = (place) => {
    if (place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    const figure = data.figures[place.dataset.figure];
    const layout = { ...base, ...figure.layout };
    for (const key of Object.keys(layout))
      if (/^[xy]axis\d*$/.test(key)) layout[key] = { ...axis, ...layout[key] };
    // panels that no axis is given for
    for (const trace of figure.traces)
      for (const [key, name] of [["xaxis", trace.xaxis], ["yaxis", trace.yaxis]]) {
        const full = key + (name || "").slice(1);
        if (!layout[full]) layout[full] = { ...axis };
      }
    Plotly.newPlot(place, figure.traces, layout, config);
    place.on("plotly_click", (event) => {
      const reason = event.points[0].customdata;
      const inside = place.closest("section").querySelector(".structures");
      if (inside && typeof reason === "string") show(inside, reason, 0);
    });
  };

  // A library that is needed only on a click is not run before.
  const run = (id) => {
    const held = document.getElementById(id);
    if (!held) return;
    const script = document.createElement("script");
    script.textContent = held.textContent;
    held.remove();
    document.body.append(script);
  };

  const show = (place, reason, number) => {
    const block = data.structures[place.dataset.structures];
    const group = block.groups.find((one) => one.reason === reason);
    const said = place.querySelector(".said"), viewer = place.querySelector(".viewer");
    if (!group || !group.examples.length) return;
    for (const button of place.querySelectorAll("button"))
      button.setAttribute("aria-pressed", String(button.dataset.reason === reason));
    const example = group.examples[number % group.examples.length];
    said.textContent = `${reason}: ${number % group.examples.length + 1} of ${group.examples.length} shown ` +
      `of ${group.count}. ${example.label}. Click again for the next; drag to turn.`;
    place.dataset.number = String(number);
    place.dataset.shown = reason;
    viewer.hidden = false;
    try {
      run("library-3dmol");
      if (!place.viewer) place.viewer = $3Dmol.createViewer(viewer, { backgroundColor: "#fafbf9" });
      const bonds = block.elements.map(() => []);
      for (const [i, j] of block.bonds) { bonds[i].push(j); bonds[j].push(i); }
      const atoms = block.elements.map((elem, i) => ({
        elem, index: i, serial: i, bonds: bonds[i], bondOrder: bonds[i].map(() => 1),
        x: example.x[3 * i] / 100, y: example.x[3 * i + 1] / 100, z: example.x[3 * i + 2] / 100,
      }));
      place.viewer.removeAllModels();
      place.viewer.addModel().addAtoms(atoms);
      place.viewer.setStyle({}, atoms.length > 300 ? { line: {} } : { stick: { radius: 0.12 }, sphere: { scale: 0.22 } });
      place.viewer.zoomTo();
      place.viewer.render();
    } catch (error) {
      said.textContent += ` This browser shows no structures (${error && error.message || "no WebGL"}).`;
    }
  };

  for (const place of document.querySelectorAll(".structures"))
    place.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const again = place.dataset.shown === button.dataset.reason;
      show(place, button.dataset.reason, again ? Number(place.dataset.number) + 1 : 0);
    });

  const places = [...document.querySelectorAll(".plot")];
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { draw(entry.target); watch.unobserve(entry.target); }
  }, { rootMargin: "300px" });
  for (const place of places) watch.observe(place);
  window.addEventListener("beforeprint", () => places.forEach(draw));
  document.documentElement.dataset.opened = String(Math.round(performance.now()));
})();
