"use strict";
// Draws the page from the JSON in #data. Texts go in as text, never as HTML.
(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const { runs } = report;
  const isCompared = runs.length > 1;
  const palettes = {
    light: ["#1f6fd0", "#d9480f", "#2b8a3e", "#9c36b5", "#c2255c", "#0b7285", "#946200", "#495057"],
    dark: ["#74c0fc", "#ffa94d", "#69db7c", "#e599f7", "#faa2c1", "#3bc9db", "#ffe066", "#ced4da"],
  };
  const screenIsDark = matchMedia("(prefers-color-scheme: dark)");
  let isPrinting = false;
  const theme = () => (screenIsDark.matches && !isPrinting ? "dark" : "light");
  const colour = (place) => palettes[theme()][place % palettes.light.length];
  // of several runs a colour is a run, and what is held out is dashed beside what is trained on
  const heldOut = ["eval", "valid", "validation", "val", "dev"];

  function element(tag, options = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") made.className = value;
      else if (name in made && name !== "style") made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const main = document.getElementById("main");
  function section(title, ...children) {
    const made = element("section", {}, element("h2", {}, title), ...children);
    main.append(made);
    return made;
  }

  const swatches = [];
  function swatch(place) {
    const made = element("span", { class: "swatch" });
    swatches.push([made, place]);
    return made;
  }
  const number = (value) => {
    if (value === null || value === undefined) return "";
    if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en");
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-3 ? value.toExponential(3) : value.toPrecision(5).replace(/\.?0+$/, "");
  };
  const shown = (value) => (value === undefined ? "–" : value === null ? "none" : typeof value === "string" ? value : JSON.stringify(value));
  const when = (text) => (text ? String(text).replace("T", " ").replace(/(:\d\d(\.\d+)?)?\+00:00$/, " UTC") : "");
  const seconds = (value) => {
    if (value === undefined || value === null) return "";
    if (value < 60) return `${value.toFixed(1)} s`;
    const whole = Math.round(value), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
  };

  // -- runs, and what differs between them
  runs.forEach((run, place) => {
    document.getElementById("runs").append(
      element("li", {},
        element("span", {}, swatch(place), element("strong", {}, run.name)),
        element("span", { class: "state" }, run.state),
        element("span", { class: "faint" }, `${run.recipe}, step ${number(run.step)}`),
        run.name === run.path ? null : element("code", { class: "faint" }, run.path),
        run.mistakes ? element("a", { href: run.mistakes }, "its worst mistakes") : null));
    for (const problem of run.problems) {
      document.getElementById("runs").append(element("li", { class: "problem" }, `${run.name}: ${problem}`));
    }
    if (run.error) {
      const text = `${run.name}: ${run.error.type} at step ${run.error.step}: ${run.error.text}`;
      document.getElementById("runs").append(element("li", { class: "problem" }, text));
    }
  });

  function table(head, rows, options = {}) {
    const body = element("tbody");
    for (const row of rows) body.append(row);
    const made = element("table", options, element("thead", {}, element("tr", {}, ...head)), body);
    return element("div", { class: "wide" }, made);
  }
  const runHeads = () => runs.map((run, place) => element("th", {}, swatch(place), run.name));

  const flagNames = [...new Set(runs.flatMap((run) => Object.keys(run.flags)))];
  const text = (run, flag) => shown(run.flags[flag]);
  const differing = flagNames.filter((flag) => new Set(runs.map((run) => text(run, flag))).size > 1);
  const flag = (name) => `--${name.replace(/_$/, "").replaceAll("_", "-")}`;
  function flagTable(names) {
    return table([element("th", {}, "flag"), ...runHeads()], names.map((name) =>
      element("tr", {}, element("td", {}, element("code", {}, flag(name))),
        ...runs.map((run) => element("td", { class: "mono" }, text(run, name))))));
  }
  if (isCompared) {
    section("Flags that differ", differing.length ? flagTable(differing) : element("p", { class: "faint" }, "All flags are the same."));
  }

  // -- curves
  const panels = new Map(); // the name of a value: its series
  runs.forEach((run, place) => {
    for (const [name, curve] of Object.entries(run.curves)) {
      const [group, label] = curve.group;
      if (!panels.has(label)) panels.set(label, []);
      panels.get(label).push({ run: place, group, name, steps: curve.steps, values: curve.values, band: run.bands[name] });
    }
  });
  const order = ["batch", "", "train", ...heldOut, "test"]; // what is noisy lies behind the others
  for (const series of panels.values()) {
    series.sort((one, other) => order.indexOf(one.group) - order.indexOf(other.group) || one.run - other.run);
  }

  function smoothed(values, weight) { // an exponential mean, without the bias of its beginning
    if (!weight) return values;
    let mean = 0, total = 0;
    return values.map((value) => {
      if (value === null) return null;
      mean = weight * mean + (1 - weight) * value;
      total = weight * total + (1 - weight);
      return mean / total;
    });
  }
  function alpha(hex, opacity) {
    return hex + Math.round(255 * opacity).toString(16).padStart(2, "0");
  }

  let smoothing = 0, isLogarithmic = false;
  const shades = []; // of the cells of the confusion matrices
  const plots = [];
  const controls = element("div", { class: "controls" },
    element("label", {}, "Smoothing",
      element("input", { type: "range", id: "smoothing", min: "0", max: "0.99", step: "0.01", value: "0" }),
      element("output", { id: "smoothing-value" }, "0.00")),
    element("label", {}, element("input", { type: "checkbox", id: "logarithmic" }), "Logarithmic"),
    element("span", { class: "faint" }, "Point for values; drag to zoom, double-click to go back; a name switches its curve."));
  const grid = element("div", { class: "panels" });
  if (panels.size) section("Curves", controls, grid);

  class Panel {
    constructor(label, series) {
      this.series = series;
      this.hidden = new Set();
      this.plotBox = element("div", { class: "plot" });
      this.readout = element("div", { class: "readout" });
      this.label = label;
      grid.append(element("div", { class: "panel" }, element("h3", {}, label.replaceAll("_", " ")), this.plotBox, this.readout));
      this.plot = null;
      this.entries = series.map((one, place) => {
        const value = element("strong");
        const name = [isCompared ? runs[one.run].name : null, one.group].filter(Boolean).join(" ") || label;
        const mark = element("span", { class: "swatch" });
        const entry = element("span", { title: "switch this curve" }, mark, `${name} `, value);
        entry.addEventListener("click", () => {
          if (!this.hidden.delete(place)) this.hidden.add(place);
          this.draw();
        });
        this.readout.append(entry);
        return { entry, mark, value };
      });
      this.draw();
    }

    colourOf(one, place) {
      if (isCompared) return colour(one.run);
      const groups = [...new Set(this.series.map((each) => each.group))];
      return colour(Math.max(groups.indexOf(one.group), 0));
    }

    banded() { // the curves that are of several members
      return this.series.filter((one) => one.band);
    }

    dashOf(one) {
      const isAlone = this.series.every((each) => each.group === one.group);
      return isCompared && !isAlone && heldOut.includes(one.group) ? [7, 4] : [];
    }

    data() {
      const positive = (values) => (isLogarithmic ? values.map((value) => (value > 0 ? value : null)) : values);
      const tables = this.series.flatMap((one) => [
        [one.steps, positive(smoothed(one.values, smoothing))],
        [one.steps, smoothing ? positive(one.values) : one.values.map(() => null)],
      ]);
      for (const { band } of this.banded()) tables.push([band.steps, positive(band.high)], [band.steps, positive(band.low)]);
      return uPlot.join(tables, tables.map(() => [0, 1]));
    }

    draw() {
      const style = getComputedStyle(document.documentElement);
      const dark = theme() === "dark";
      const ink = dark ? "#9aa5b5" : "#5c6778", line = dark ? "#2b323d" : "#e4e8ee";
      const axis = {
        stroke: ink, font: "12px system-ui, sans-serif", ticks: { stroke: line, width: 1, size: 4 }, grid: { stroke: line, width: 1 },
      };
      const lines = this.series.flatMap((one, place) => {
        const solid = this.colourOf(one, place), isBatch = one.group === "batch";
        const few = one.values.length <= 24;
        const dash = this.dashOf(one);
        const show = !this.hidden.has(place);
        const isBehind = isBatch && this.series.some((each) => each.group !== "batch" && each.values.length > 1);
        const stroke = isBehind && !smoothing ? alpha(solid, 0.45) : solid;
        return [
          { label: one.name, show, stroke, width: isBatch ? 1.2 : 2, dash, points: { show: few, size: one.group === "test" ? 9 : 5, fill: stroke, stroke } },
          { label: `${one.name}, as logged`, show: show && smoothing > 0, stroke: alpha(solid, 0.22), width: 1, points: { show: false } },
        ];
      });
      const bands = this.banded().map((one) => {
        const place = this.series.indexOf(one), first = lines.length + 1;
        const edge = { show: !this.hidden.has(place), stroke: "transparent", width: 0, points: { show: false } };
        lines.push({ ...edge, label: `${one.name}, highest` }, { ...edge, label: `${one.name}, lowest` });
        return { series: [first, first + 1], fill: alpha(this.colourOf(one, place), 0.18) };
      });
      this.series.forEach((one, place) => {
        const { entry, mark } = this.entries[place];
        mark.style.borderTopColor = this.colourOf(one, place);
        mark.style.borderTopStyle = this.dashOf(one).length ? "dashed" : "solid";
        entry.classList.toggle("off", this.hidden.has(place));
      });
      const nearest = (plot, place, hovered) => { // curves have their own steps: the nearest point is shown
        const values = plot.data[place];
        for (let away = 0; away < values.length; away++) {
          if (values[hovered - away] != null) return hovered - away;
          if (values[hovered + away] != null) return hovered + away;
        }
        return hovered;
      };
      const options = {
        width: Math.max(this.plotBox.clientWidth, 200), height: 260, legend: { show: false },
        scales: { x: { time: false }, y: isLogarithmic ? { distr: 3 } : {} },
        axes: [
          { ...axis, size: 34, values: (_, ticks) => ticks.map((tick) => (tick % 1 ? "" : tick >= 1e4 ? `${tick / 1e3}k` : `${tick}`)) },
          { ...axis, size: 58, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
        ],
        series: [{}, ...lines],
        bands,
        cursor: { dataIdx: nearest, points: { size: 7 }, sync: { key: "steps", scales: ["x", null] } },
        hooks: { setCursor: [(plot) => this.read(plot)] },
      };
      if (this.plot) this.plot.destroy();
      this.plotBox.style.minHeight = "260px";
      this.plot = new uPlot(options, this.data(), this.plotBox);
      this.read(this.plot);
    }

    read(plot) {
      const isOver = plot.cursor.left >= 0 && plot.cursor.idx != null;
      this.series.forEach((one, place) => {
        const values = plot.data[1 + 2 * place];
        let index = isOver ? plot.cursor.idxs[1 + 2 * place] : null;
        if (!isOver) for (index = values.length - 1; index > 0 && values[index] == null; index--);
        const value = index == null ? null : values[index];
        const at = isOver && value != null ? ` at ${number(plot.data[0][index])}` : "";
        this.entries[place].value.textContent = value == null ? "–" : number(value) + at;
      });
    }
  }
  const first = (label) => (label === "loss" ? 0 : panels.get(label).some((one) => runs[one.run].score === one.name) ? 1 : 2);
  const labels = [...panels.keys()].sort((one, other) => first(one) - first(other));
  for (const label of labels) plots.push(new Panel(label, panels.get(label)));

  function redraw() {
    for (const [made, place] of swatches) made.style.backgroundColor = colour(place);
    for (const plot of plots) plot.draw();
    for (const shade of shades) shade();
  }
  document.addEventListener("input", (event) => {
    if (event.target.id === "smoothing") {
      smoothing = Number(event.target.value);
      document.getElementById("smoothing-value").textContent = smoothing.toFixed(2);
    } else if (event.target.id === "logarithmic") isLogarithmic = event.target.checked;
    else return;
    redraw();
  });
  let width = innerWidth;
  addEventListener("resize", () => { if (width !== innerWidth) { width = innerWidth; redraw(); } });
  screenIsDark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    isPrinting = true;
    for (const each of document.querySelectorAll("details")) each.open = true;
    redraw();
  });
  addEventListener("afterprint", () => { isPrinting = false; redraw(); });

  // -- scores: the best and the last of each, sorted by any column
  const own = new Set(runs.map((run) => run.score)); // what the runs themselves call their score comes first
  const scoreNames = [...new Set(runs.flatMap((run) => Object.keys(run.best)))];
  scoreNames.sort((one, other) => own.has(other) - own.has(one));
  const hasLast = (name) => runs.some((run) => run.best[name] && run.best[name].score !== run.last[name]);
  if (scoreNames.length) {
    const columns = [
      { title: "run", of: (run) => run.name },
      ...scoreNames.flatMap((name) => [
        {
          title: `best ${name.replaceAll("_", " ")}`,
          isNumber: true,
          mode: runs.find((run) => run.best[name]).best[name].mode,
          of: (run) => run.best[name]?.score,
          at: (run) => run.best[name]?.step,
        },
        ...(hasLast(name) ? [{ title: "last", isNumber: true, of: (run) => run.last[name] }] : []),
      ]),
      { title: "steps", isNumber: true, of: (run) => run.step },
      { title: "time", isNumber: true, of: (run) => run.seconds?.all, text: (value) => seconds(value) },
      { title: "begun", of: (run) => run.begun, text: (value) => when(value) },
    ];
    let sorted = { column: null, isDescending: false };
    const body = element("tbody"), heads = columns.map((column) => {
      const head = element("th", { class: column.isNumber ? "number" : "" }, element("button", { type: "button" }, column.title));
      head.firstChild.addEventListener("click", () => {
        const isFirst = sorted.column !== column;
        sorted = { column, isDescending: isFirst ? column.mode === "max" : !sorted.isDescending };
        fill();
      });
      return head;
    });
    function fill() {
      const rows = runs.map((run, place) => ({ run, place }));
      if (sorted.column) {
        const sign = sorted.isDescending ? -1 : 1;
        rows.sort((one, other) => {
          const [a, b] = [one, other].map(({ run }) => sorted.column.of(run));
          if (a == null || b == null) return (a == null) - (b == null); // what has none comes last
          return sign * (a < b ? -1 : a > b ? 1 : 0);
        });
      }
      heads.forEach((head, place) => {
        if (columns[place] !== sorted.column) head.removeAttribute("aria-sort");
        else head.setAttribute("aria-sort", sorted.isDescending ? "descending" : "ascending");
      });
      body.replaceChildren(...rows.map(({ run, place }) => element("tr", {}, ...columns.map((column, index) => {
        const value = column.of(run), all = runs.map(column.of).filter((each) => each != null);
        const top = column.mode && all.length > 1 && value === (column.mode === "min" ? Math.min(...all) : Math.max(...all));
        const said = column.text ? column.text(value) : column.isNumber ? number(value) : value;
        const mark = index === 0 ? swatch(place) : null;
        if (mark) mark.style.backgroundColor = colour(place);
        const at = column.at && value != null ? element("span", { class: "faint" }, ` at ${number(column.at(run))}`) : null;
        const kind = `${column.isNumber ? "number" : "short"} ${top ? "best" : ""}`.trim();
        return element("td", { class: kind }, mark, said ?? "", at);
      }))));
    }
    fill();
    section("Scores", element("div", { class: "wide" },
      element("table", { id: "scores" }, element("thead", {}, element("tr", {}, ...heads)), body)));
  }

  // -- confusion matrices
  const matrices = element("div", { class: "matrices" });
  runs.forEach((run, place) => {
    for (const [name, { step, counts, classes }] of Object.entries(run.matrices)) {
      const sums = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
      const columnSums = counts.map((_, column) => counts.reduce((sum, row) => sum + row[column], 0));
      const share = (part, whole) => (whole ? (part / whole).toFixed(3) : "–");
      const rows = counts.map((row, label) => element("tr", {}, element("th", {}, classes[label]),
        ...row.map((count, column) => {
          const part = sums[label] ? count / sums[label] : 0;
          const cell = element("td", { class: "count", title: `true ${classes[label]}, predicted ${classes[column]}: ${number(count)}` }, count ? number(Math.round(count)) : element("span", { class: "faint" }, "·"));
          shades.push(() => {
            const opacity = count ? 0.08 + 0.77 * part : 0;
            cell.style.backgroundColor = count ? alpha(label === column ? colour(0) : colour(1), opacity) : "";
            cell.style.color = opacity > 0.5 ? (theme() === "dark" ? "#10141a" : "#ffffff") : "";
          });
          return cell;
        }),
        element("td", { class: "faint" }, share(row[label], sums[label])), element("td", { class: "faint" }, share(row[label], columnSums[label]))));
      const title = `${run.name}: ${name.replaceAll("_", " ")}, logged at step ${number(step)}`;
      matrices.append(element("div", {}, element("h3", {}, swatch(place), title),
        table([element("th", {}, "true"), ...classes.map((name) => element("th", {}, name)), element("th", {}, "recall"), element("th", {}, "precision")], rows, { class: "matrix" })));
    }
  });
  if (matrices.children.length) section("Confusion", matrices);

  // -- resumes and changed flags, wall time, environment, every flag
  const events = runs.flatMap((run, place) => run.events.map((event) => ({ ...event, place })));
  if (events.length) {
    section("Resumed and changed", table(["run", "when", "at step", "what"].map((title) => element("th", {}, title)),
      events.map((event) => element("tr", {}, element("td", {}, swatch(event.place), runs[event.place].name),
        element("td", {}, when(event.when)), element("td", { class: "number" }, number(event.step)), element("td", {}, event.what)))));
  }
  const kinds = [...new Set(runs.flatMap((run) => Object.keys(run.seconds ?? {})))];
  if (kinds.length) {
    section("Wall time", table([element("th", {}, ""), ...runHeads()], kinds.map((kind) => element("tr", {}, element("td", {}, kind.replaceAll("_", " ")),
      ...runs.map((run) => element("td", {}, seconds(run.seconds?.[kind]), kind in run.shares ? ` (${run.shares[kind].toFixed(1)} %)` : ""))))));
  }
  const facts = [...new Set(runs.flatMap((run) => Object.keys(run.environment)))];
  section("Environment", table([element("th", {}, ""), ...runHeads()], facts.map((fact) => element("tr", {}, element("td", {}, fact),
    ...runs.map((run) => element("td", { class: "mono" }, shown(run.environment[fact])))))));
  main.append(element("details", { open: !isCompared }, element("summary", {}, "Every flag"), flagTable(flagNames)));
  main.append(element("p", { class: "faint" }, report.note));

  redraw();
  // for whoever looks at the values behind the curves
  window.fourbeatReport = { plots, panels };
})();
