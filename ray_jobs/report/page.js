// Draws a page's figures with Plotly in the page's colours, and sorts its tables. What went wrong and what was drawn
// stands in data attributes, so that a person sees it and a test can read it from the document.
(function () {
  "use strict";
  const root = document.documentElement;
  const problems = [];
  const specs = new Map();
  // CSS pixels that fit on A4 and on letter, and those of a small figure, two in a row.
  const PRINT_WIDTH = 680;
  const PRINT_SMALL_WIDTH = 330;
  const CONFIG = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"],
    // No button that sends a figure's data to a server.
    showSendToCloud: false, showEditInChartStudio: false, plotlyServerURL: "",
  };
  const SMALL = 330;

  function note(problem) {
    problems.push(String(problem).slice(0, 500));
    root.dataset.problems = JSON.stringify(problems);
  }
  addEventListener("error", (event) => note(event.message));
  addEventListener("unhandledrejection", (event) => note(event.reason));
  document.addEventListener("securitypolicyviolation", (event) => note(event.violatedDirective + " " + event.blockedURI));

  function themed(layout) {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"),
      automargin: true, title: { standoff: 8 },
    };
    const template = {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
        hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--ink") }, align: "left" },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--faint"), activecolor: colour("--ink") },
        legend: { bgcolor: "rgba(0,0,0,0)" },
        annotationdefaults: { bgcolor: colour("--veil"), borderpad: 1 },
        xaxis: axis, yaxis: axis,
      },
    };
    return Object.assign({ template: template }, structuredClone(layout));
  }

  // The bar of buttons covers a small figure.
  const config = (box) => Object.assign({ displayModeBar: box.clientHeight > SMALL ? "hover" : false }, CONFIG);

  function failed(box, problem) {
    note(problem);
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.textContent = "This figure could not be drawn: " + problem;
    box.replaceChildren(notice);
  }

  async function draw(box) {
    try {
      const spec = JSON.parse(box.querySelector("script").textContent);
      box.replaceChildren();
      specs.set(box, spec);
      await Plotly.newPlot(box, spec.data, themed(spec.layout), config(box));
      box.dataset.drawn = box.querySelectorAll(".trace, .bars .point, .boxlayer .trace").length;
    } catch (problem) {
      failed(box, problem);
    }
  }

  async function drawAll() {
    // One by one with a pause, so that a long page can be read and scrolled meanwhile.
    for (const box of document.querySelectorAll(".plot")) {
      await draw(box);
      await new Promise((done) => setTimeout(done));
    }
    root.dataset.ready = "yes";
  }

  function redraw(size) {
    for (const [box, spec] of specs) {
      Plotly.react(box, spec.data, Object.assign(themed(spec.layout), size(box)), config(box));
    }
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(() => ({})));
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    redraw((box) => ({ width: box.closest(".grid") ? PRINT_SMALL_WIDTH : PRINT_WIDTH }));
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    redraw(() => ({}));
    // A figure keeps the width it was given until it is told to fill its place again.
    for (const box of specs.keys()) Plotly.Plots.resize(box);
  });

  function compare(left, right) {
    const numbers = [Number(left), Number(right)];
    if (left && right && !numbers.some(Number.isNaN)) return numbers[0] - numbers[1];
    return left.localeCompare(right, undefined, { numeric: true });
  }
  const isNothing = (text) => text === "" || text === "—" || text === "nan";

  function sort(head) {
    const table = head.closest("table");
    const rows = Array.from(table.tBodies[0].rows);
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const keys = new Map(rows.map((row) => [row, row.cells[head.cellIndex].textContent]));
    rows.sort((left, right) => {
      const [a, b] = [keys.get(left), keys.get(right)];
      // What is not there comes last in both directions.
      if (isNothing(a) || isNothing(b)) return isNothing(a) - isNothing(b);
      return sign * compare(a, b);
    });
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }

  addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("table.sortable th button")) {
      button.addEventListener("click", () => sort(button.closest("th")));
    }
    drawAll();
  });
})();
