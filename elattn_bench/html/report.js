// Hands the page's data to Vega (the chart) and to DataTables (the table), and listens to the controls.
const page = JSON.parse(document.getElementById("data").textContent);
const { columns, count, held, chart, looks } = page;
const at = (id) => document.getElementById(id);
const code = (name, row) => columns[name].codes[row];
const value = (name, row) => {
  const column = columns[name];
  return column.words ? column.words[column.codes[row]] : column.numbers[row];
};

// Numbers for people: three digits, and a unit that fits.
const digits = (number) => String(Number(number.toPrecision(3)));
const scaled = (number, steps) => {
  const [size, unit] = steps.find(([least]) => number >= least) ?? steps.at(-1);
  return `${digits(number / size)} ${unit}`;
};
const LENGTHS = [[2 ** 30, "G"], [2 ** 20, "M"], [1024, "k"]];
const length = (number) => {
  const found = LENGTHS.find(([size]) => number >= size && number % size === 0);
  return found ? `${number / found[0]}${found[1]}` : String(number);
};
const show = {
  latency: (ms) => scaled(ms, [[1000, "s"], [1, "ms"], [0.001, "µs"]]),
  memory: (mib) => scaled(mib, [[1024, "GiB"], [1, "MiB"], [1 / 1024, "KiB"], [1 / 1048576, "B"]]),
  state: (mib) => show.memory(mib),
  received: (mib) => show.memory(mib),
  tokens: (rate) => scaled(rate, [[1e9, "G/s"], [1e6, "M/s"], [1e3, "k/s"], [1, "/s"]]),
  speed_up: (ratio) => `${digits(ratio)}x`,
  ceiling: (share) => `${digits(100 * share)} %`,
};
const shown = (name, number) => (number === null ? "" : (show[name] ?? digits)(number));
const between = (name, low, high, row) =>
  value(low, row) === null ? "" : `${shown(name, value(low, row))} to ${shown(name, value(high, row))}`;

// What a chart holds fixed: every control but that of its axis.
const control = (name) => at(`held-${name}`);
const heldNow = () => held.filter((name) => name !== at("x").value);
const isDrawable = (row) => value(at("x").value, row) !== null;

// Not every combination was measured: keep what was chosen last, and of the rest as much as there is. A new axis
// starts where most of its values were measured.
function settle(changed) {
  const names = heldNow();
  const places = changed === "x" ? placesBy(names) : null;
  let [best, most] = [page.start, -1];
  for (let row = 0; row < count; row += 1) {
    if (!isDrawable(row)) continue;
    let score = value(at("y").value, row) === null ? 0 : 0.5;
    score += places ? places.get(keyOf(names, row))?.size * names.length || 0 : 0;
    for (const name of names) {
      if (code(name, row) === Number(control(name).value)) score += name === changed ? names.length : 1;
    }
    if (score > most) [best, most] = [row, score];
  }
  for (const name of held) {
    control(name).closest("label").hidden = !names.includes(name);
    if (names.includes(name)) control(name).value = code(name, best);
  }
}

const keyOf = (names, row) => names.map((name) => code(name, row)).join();
function placesBy(names) {
  const places = new Map();
  for (let row = 0; row < count; row += 1) {
    if (!isDrawable(row) || value(at("y").value, row) === null) continue;
    const key = keyOf(names, row);
    places.set(key, (places.get(key) ?? new Set()).add(code(at("x").value, row)));
  }
  return places;
}

// The rows of the chart by line, in the order of lines.
function chosen() {
  const wanted = heldNow().map((name) => [columns[name].codes, Number(control(name).value)]);
  const name = at("x").value === "order" ? "orderless" : "line";
  const groups = new Map();
  for (let row = 0; row < count; row += 1) {
    if (!isDrawable(row) || !wanted.every(([codes, each]) => codes[row] === each)) continue;
    const line = value(name, row);
    if (!groups.has(line)) groups.set(line, []);
    groups.get(line).push(row);
  }
  const order = columns[name].words;
  return [...groups].sort(([one], [other]) => order.indexOf(one) - order.indexOf(other));
}

// The list of lines: legend and filter in one. Of many lines only some are ticked at first.
const MANY = 10;
const unticked = new Set();
const met = new Set();
function listLines(groups) {
  for (const [line] of groups) {
    if (!met.has(line) && groups.length > MANY && !page.featured.includes(line)) unticked.add(line);
    met.add(line);
  }
  at("lines").replaceChildren(...groups.map(([line, rows]) => lineEntry(line, looks[code("line", rows[0])])));
}
function lineEntry(line, look) {
  const [label, box, mark] = ["label", "input", "span"].map((tag) => document.createElement(tag));
  Object.assign(box, { type: "checkbox", value: line, checked: !unticked.has(line) });
  Object.assign(mark, { textContent: look.letter, className: "mark", ariaHidden: "true" });
  mark.style.color = look.color;
  label.append(box, mark, line);
  return label;
}

function pointOf(line, row, look) {
  const [x, y] = [at("x").value, at("y").value];
  const { low, high } = chart.y[y];
  const middle = value(y, row);
  const bound = (name) => (name && value(name, row) > 0 ? value(name, row) : middle);
  const stable = value("stability", row) !== "noisy" && value("stability", row) !== "throttled";
  return {
    x: value(x, row), y: middle, low: bound(low), high: bound(high), line, ...look,
    fill: stable ? look.color : "var(--ground)",
    across: `${chart.x[x].words} ${length(value(x, row))}`,
    latency: shown("latency", value("latency", row)),
    quartiles: between("latency", "latency_p25", "latency_p75", row),
    interval: between("latency", "latency_low", "latency_high", row),
    speed_up: shown("speed_up", value("speed_up", row)),
    memory: shown("memory", value("memory", row)),
    stability: value("stability", row) ?? "", samples: value("samples", row) ?? "",
  };
}
function pointsOf([line, rows]) {
  const look = looks[code("line", rows[0])];
  const isLog = at("y-scale").value === "log";
  const measured = rows.filter((row) => value(at("y").value, row) !== null);
  const points = measured.filter((row) => !isLog || value(at("y").value, row) > 0).map((row) => pointOf(line, row, look));
  return points.sort((one, other) => one.x - other.x);
}

let view = null;
async function draw() {
  const groups = chosen();
  listLines(groups);
  const visible = groups.filter(([line]) => !unticked.has(line));
  const lines = visible.map(pointsOf).filter((points) => points.length);
  describe(visible, lines);
  const last = view;
  if (lines.length) ({ view } = await vegaEmbed(at("chart"), specOf(lines), { actions: false, renderer: "svg", ast: true }));
  else at("chart").replaceChildren();
  if (last !== view) last?.finalize();
  document.documentElement.dataset.chart = String(Number(document.documentElement.dataset.chart ?? 0) + 1);
}
function specOf(lines) {
  const spec = structuredClone(chart.spec);
  const [x, y] = ["x", "y"].map((name) => structuredClone(chart[name][at(name).value][at(`${name}-scale`).value]));
  const points = lines.flat();
  if (at("x-scale").value === "log") x.axis.values = [...new Set(points.map((point) => point.x))];
  spec.datasets = { points };
  spec.encoding = { x, y };
  spec.layer[0].encoding.y = { ...y, field: "low" };
  spec.description = at("chart-title").textContent + ". " + at("chart-words").textContent;
  return spec;
}

// Title, remarks, and the chart in words.
function describe(visible, lines) {
  const [x, y] = [chart.x[at("x").value], chart.y[at("y").value]];
  const title = `${y.words} against ${x.words}`;
  at("chart-title").textContent = title[0].toUpperCase() + title.slice(1);
  at("chart-setting").textContent = lines.length ? settingOf(visible[0][1][0]) : "Nothing to draw: no line is ticked, or none was measured here.";
  const sentences = lines.map((points) => {
    const item = document.createElement("li");
    const ends = points.length > 1 ? [points[0], points.at(-1)] : points;
    const each = ends.map((point) => `${shown(at("y").value, point.y)} at ${length(point.x)}`);
    item.textContent = `${points[0].line}: ${each.join(", ")}. `;
    return item;
  });
  at("chart-words").replaceChildren(...sentences);
  const lost = visible.map(lossOf).filter(Boolean);
  at("chart-lost").textContent = lost.length ? `Not measured: ${lost.join("; ")}.` : "";
}
const named = { batch: "batch ", heads: "heads ", dim: "dim ", seq_len: "length ", ranks: "ranks ", device_type: "on " };
function settingOf(row) {
  const said = (name) => value(name, row) !== null && (name !== "cache" || value(name, row) !== "hot");
  const fixed = page.fixed.filter((name) => name !== at("x").value && said(name));
  return fixed.map((name) => `${named[name] ?? ""}${length(value(name, row))}`).join(", ");
}
function lossOf([line, rows]) {
  const ends = new Map();
  for (const row of rows.filter((each) => value("status", each) !== "ok")) {
    const status = value("status", row).replace("predicted_", "");
    ends.set(status, [...(ends.get(status) ?? []), value(at("x").value, row)]);
  }
  const told = [...ends].map(([status, xs]) => `${status} at ${[...new Set(xs)].map(length).join(", ")}`);
  return told.length ? `${line} (${told.join(", ")})` : "";
}

// Every string is text, never markup.
async function loadTables() {
  const source = new Blob([at("datatables-code").textContent], { type: "text/javascript" });
  const { default: DataTable, set_or_remove_dark_class: followScheme } = await import(URL.createObjectURL(source));
  followScheme();
  const text = DataTable.render.text();
  const common = { deferRender: true, pageLength: 25, order: [], autoWidth: false, ordering: { indicators: false } };
  const asColumn = ({ kind }) => ({
    render: text, defaultContent: "", className: kind === "number" ? "dt-right" : "dt-left",
    type: kind === "number" ? "num" : "string",
    columnControl: ["order", [kind === "few" ? "searchList" : "search"]],
  });
  const readers = page.table.map(({ name }) => columns[name]);
  const cell = (column, row) => (column.words ? column.words[column.codes[row]] : column.numbers[row]);
  const data = Array.from({ length: count }, (_, row) => readers.map((column) => cell(column, row)));
  new DataTable("#rows", { ...common, data, columns: page.table.map(asColumn) });
  at("more-verdicts")?.addEventListener("toggle", () => {
    const ofVerdicts = ["few", "few", "few", "text"].map((kind) => asColumn({ kind }));
    new DataTable("#verdicts", { ...common, data: page.verdicts, columns: ofVerdicts });
  }, { once: true });
  for (const box of document.querySelectorAll(".dt-layout-table")) {
    Object.assign(box, { tabIndex: 0, role: "region", ariaLabel: "Table, scrolls sideways" });
  }
  document.documentElement.dataset.table = "ready";
}

at("controls").addEventListener("change", ({ target }) => {
  settle(target.id.replace("held-", ""));
  draw();
});
at("lines").addEventListener("change", ({ target }) => {
  if (target.checked) unticked.delete(target.value);
  else unticked.add(target.value);
  draw().then(() => [...at("lines").querySelectorAll("input")].find((box) => box.value === target.value)?.focus());
});
for (const [id, ticked] of [["all-lines", true], ["no-lines", false]]) {
  at(id).addEventListener("click", () => {
    for (const [line] of chosen()) {
      if (ticked) unticked.delete(line);
      else unticked.add(line);
    }
    draw();
  });
}
for (const name of held) control(name).value = code(name, page.start);
settle("");
draw().then(loadTables);
