"use strict";
// Moves about in what the page holds; decides nothing: every status, number and text is in the data.
(() => {
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  const digits = (value) => (value === null || value === undefined ? "–" : Number(value).toPrecision(3).replace(/\.?0+(?=e|$)/, ""));

  // Prompts × positions, and the text of one prompt
  const METRICS = {
    kl: { name: "KL", unit: "nats", bounds: [1e-9, 1e-6, 1e-3, 1e-1, 1] },
    delta: { name: "Δlogit", unit: "logits", bounds: [1e-5, 1e-3, 1e-2, 1e-1, 1] },
    rank: { name: "rank", unit: "place of the reference's best token in the candidate", bounds: [1.5, 2.5, 3.5, 4.5, 5.5] },
  };
  const SIGNS = { WRONG: "✘", "TIE-FLIP": "≈", DRIFT: "~", "NOT-MEASURED": "?", MATCH: "" };
  const CODES = { W: "WRONG", T: "TIE-FLIP", D: "DRIFT", N: "NOT-MEASURED", M: "MATCH" };
  const HEIGHT = 24, HEAD = 18, ZOOMS = [3, 5, 8, 12, 18, 26];

  for (const place of document.querySelectorAll(".explorer")) explore(place, JSON.parse(place.querySelector("script").textContent));

  function explore(place, data) {
    const state = { cell: 0, prompt: 0, at: 0, metric: "kl", zoom: 3 };
    const cell = () => data.cells[state.cell];
    const prompt = () => cell().prompts[state.prompt];
    const word = (id) => (data.words[cell().model] || {})[id] ?? `<${id}>`;
    const level = (value) => {
      if (value === null || value === undefined) return "x";
      const at = METRICS[state.metric].bounds.findIndex((bound) => value < bound);
      return at < 0 ? 5 : at;
    };

    const cells = make("select", { onchange: () => go(Number(cells.value), 0, null) },
      ...data.cells.map((each, n) => make("option", { value: n }, `${each.status}  ${each.id}`)));
    const metrics = make("fieldset", {}, make("legend", {}, "shows"),
      ...Object.entries(METRICS).map(([key, metric]) => make("label", {}, make("input", {
        type: "radio", name: "metric", value: key, checked: key === "kl" ? "" : null,
        onchange: () => { state.metric = key; legend(); draw(); tokens(); },
      }), metric.name)));
    const zoom = (step) => () => { state.zoom = Math.min(Math.max(state.zoom + step, 0), ZOOMS.length - 1); draw(); };
    const controls = make("div", { class: "controls" }, make("label", {}, "cell", cells), metrics,
      make("span", {}, make("button", { type: "button", "aria-label": "zoom out", onclick: zoom(-1) }, "−"), " ",
        make("button", { type: "button", "aria-label": "zoom in", onclick: zoom(1) }, "+")));
    const names = make("div", { class: "names" });
    const canvas = make("canvas", {
      tabindex: 0, role: "application", "aria-roledescription": "heat map",
      "aria-label": "Heat map of prompts by positions. Arrow keys move, plus and minus zoom, Enter goes to the token.",
    });
    const where = make("p", { class: "where", role: "status" });
    const key = make("div", { class: "shades" });
    const heading = make("h3", {});
    const body = make("div", { class: "tokens", role: "listbox", "aria-label": "tokens of the reference's text", tabindex: 0 });
    const inspect = make("aside", { class: "inspect", "aria-label": "the chosen token" });
    const parted = make("div", {});
    const marker = make("div", { class: "marker", "aria-hidden": "true" });
    const plot = make("div", { class: "plot" }, canvas, marker);
    const map = make("div", { class: "map" }, names, plot);
    let seen = [0, 0];
    place.append(controls, key, map, where,
      make("div", { class: "reader" }, make("div", {}, heading, body, parted), inspect));

    const wide = () => ZOOMS[state.zoom];
    const columns = () => Math.max(1, ...cell().prompts.map((each) => each.s.length));
    const colour = (name) => getComputedStyle(place).getPropertyValue(name).trim();

    // Only what is seen is drawn, so that a thousand prompts cost what twenty do.
    function draw() {
      const width = wide(), ratio = window.devicePixelRatio || 1, rows = cell().prompts;
      const whole = [columns() * width + 1, HEAD + rows.length * HEIGHT];
      plot.style.width = `${whole[0]}px`; plot.style.height = `${whole[1]}px`;
      const frame = map.getBoundingClientRect(), box = plot.getBoundingClientRect();
      const beside = getComputedStyle(names).position === "sticky" ? names.offsetWidth : 0;
      const [left, top] = seen = [Math.max(0, frame.left + beside - box.left), Math.max(0, frame.top - box.top)];
      const size = [Math.max(1, Math.min(whole[0] - left, map.clientWidth - beside)), Math.max(1, Math.min(whole[1] - top, map.clientHeight))];
      canvas.style.cssText = `left:${left}px;top:${top}px;width:${size[0]}px;height:${size[1]}px`;
      canvas.width = size[0] * ratio; canvas.height = size[1] * ratio;
      const brush = canvas.getContext("2d");
      brush.scale(ratio, ratio);
      const tints = ["0", "1", "2", "3", "4", "5", "x"].map((name) => colour(`--l${name}`)), mark = colour("--mark");
      brush.font = "11px system-ui, sans-serif"; brush.textAlign = "center";
      const from = Math.floor(left / width), to = Math.ceil((left + size[0]) / width);
      for (let row = Math.floor(top / HEIGHT); row < rows.length && row * HEIGHT < top + size[1]; row++) {
        const each = rows[row], values = each[state.metric], y = HEAD + row * HEIGHT - top;
        for (let n = from; n < Math.min(to, each.s.length); n++) {
          const at = level(values[n]), x = n * width - left, sign = each.s[n];
          brush.fillStyle = tints[at === "x" ? 6 : at];
          brush.fillRect(x, y, width > 3 ? width - 1 : width, HEIGHT - 1);
          if (sign === "M") continue;
          brush.fillStyle = mark;
          if (width >= 12) brush.fillText(SIGNS[CODES[sign]], x + (width - 1) / 2, y + 16);
          else if (sign === "W") brush.fillRect(x, y + HEIGHT - 6, Math.max(1, width - 1), 5);
          else brush.fillRect(x, y + HEIGHT - 3, Math.max(1, width - 1), 2);
        }
      }
      brush.fillStyle = colour("--paper"); brush.fillRect(0, 0, size[0], HEAD - 1);
      brush.fillStyle = colour("--quiet"); brush.textAlign = "left";
      const step = width >= 18 ? 5 : width >= 8 ? 10 : 50;
      for (let n = Math.ceil(from / step) * step; n < to; n += step) brush.fillText(String(n), n * width - left, 12);
      marked();
    }

    function marked() {
      marker.style.cssText = `left:${state.at * wide()}px;top:${HEAD + state.prompt * HEIGHT}px;width:${Math.max(wide(), 4)}px;height:${HEIGHT - 1}px`;
    }

    // Moves the map so that the chosen square is seen.
    function reach() {
      const width = wide(), beside = getComputedStyle(names).position === "sticky" ? names.offsetWidth : 0;
      const x = state.at * width, y = HEAD + state.prompt * HEIGHT, room = map.clientWidth - beside;
      if (x < map.scrollLeft || x + width > map.scrollLeft + room) map.scrollLeft = x - room / 2;
      if (y - HEAD < map.scrollTop || y + HEIGHT > map.scrollTop + map.clientHeight) map.scrollTop = y - map.clientHeight / 2;
    }

    function legend() {
      const metric = METRICS[state.metric];
      const names = state.metric === "rank" ? ["1", "2", "3", "4", "5", "beyond 5"]
        : [...metric.bounds.map((bound) => `< ${bound}`), `≥ ${metric.bounds[4]}`];
      const square = (name) => { const box = make("i", { "aria-hidden": "true" }); box.style.background = `var(--l${name})`; return box; };
      key.replaceChildren(make("span", {}, `${metric.name} (${metric.unit}):`),
        ...names.map((name, n) => make("span", {}, square(n), name)), make("span", {}, square("x"), "not measured"),
        make("span", {}, "✘ or a thick bar: WRONG · ≈ tie · ~ drift · ? not measured"));
    }

    function list() {
      names.replaceChildren(...cell().prompts.map((each, n) => make("button", {
        type: "button", title: each.id, onclick: () => go(state.cell, n, null),
      }, `${SIGNS[each.status] ?? "!"} ${each.id}`)));
    }

    function tokens() {
      const each = prompt();
      heading.textContent = `${each.id}: ${each.status}, ${each.s.length} positions in ${cell().id}`;
      body.replaceChildren(make("span", { class: "lead" }, each.lead));
      body.append(...[...each.s].map((code, n) => {
        const status = CODES[code], label = each.label[n] < 0 ? "⟨end⟩" : word(each.label[n]);
        const span = make("span", { class: `token ${status}${n === each.first ? " first" : ""}`, role: "option", id: `token-${n}`, "aria-selected": "false",
          "aria-label": `position ${n}, ${label}, ${status}${n === each.first ? ", first difference" : ""}` },
        label,
        SIGNS[status] ? make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[status]) : null);
        span.style.background = `var(--l${level(each[state.metric][n])})`;
        span.dataset.at = n;
        return span;
      }));
      parted.replaceChildren(...(each.parting || []).map((line) => make("p", {}, line)),
        ...(each.failure ? [make("p", { class: "bad" }, each.failure)] : []));
      select(state.at, false);
    }

    function select(at, move = true) {
      const each = prompt();
      state.at = Math.max(0, Math.min(at, each.s.length - 1));
      for (const span of body.querySelectorAll("[aria-selected='true']")) span.setAttribute("aria-selected", "false");
      const span = body.querySelector(`#token-${state.at}`);
      if (span) {
        span.setAttribute("aria-selected", "true");
        body.setAttribute("aria-activedescendant", span.id);
        if (move) body.scrollTop += Math.min(0, span.offsetTop - body.offsetTop - body.scrollTop - 8)
          || Math.max(0, span.offsetTop - body.offsetTop + span.offsetHeight - body.scrollTop - body.clientHeight + 8);
      }
      describe();
    }

    function describe() {
      const each = prompt(), at = state.at;
      if (!each.s.length) { where.textContent = each.failure || "nothing was compared"; inspect.replaceChildren(where.textContent); return; }
      const status = CODES[each.s[at]];
      where.textContent = `${each.id}, position ${at}: ${status}, KL ${digits(each.kl[at])} nats, Δlogit ${digits(each.delta[at])}, rank ${each.rank[at] ?? "–"}`;
      const top = each.top && each.top[at];
      const head = make("tr", {}, ...["", "reference", "logit", "candidate", "logit"].map((name) => make("th", { scope: "col" }, name)));
      const rows = top ? [0, 1, 2, 3, 4].map((n) => make("tr", {}, make("td", {}, `${n + 1}`),
        make("td", {}, make("code", {}, top[0][n] < 0 ? "–" : word(top[0][n]))), make("td", { class: "number" }, digits(top[1][n])),
        make("td", {}, make("code", {}, top[2][n] < 0 ? "–" : word(top[2][n]))), make("td", { class: "number" }, digits(top[3][n])))) : [];
      inspect.replaceChildren(...[
        make("h3", {}, `position ${at}: ${SIGNS[status]} ${status}`),
        make("p", {}, "followed by ", make("code", {}, each.label[at] < 0 ? "nothing" : word(each.label[at]))),
        make("p", {}, `KL ${digits(each.kl[at])} nats · Δlogit ${digits(each.delta[at])} · margin ${digits(each.margin[at])} · regret ${digits(each.regret[at])}`),
        status === "TIE-FLIP" ? make("p", {}, "a tie: the reference rates both tokens alike, within the band's tie margin") : null,
        top ? make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)) : make("p", { class: "quiet" }, data.left_out),
      ].filter((part) => part !== null));
    }

    function go(chosen, row, at) {
      const moved = chosen !== state.cell || !names.children.length;
      state.cell = chosen; state.prompt = row;
      cells.value = String(chosen);
      if (moved) list();
      [...names.children].forEach((button, n) => button.setAttribute("aria-current", String(n === row)));
      const each = prompt();
      state.at = at ?? Math.max(0, each.first ?? 0);
      tokens(); select(state.at); reach();
      if (moved) draw(); else marked();
    }

    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      const row = Math.floor((event.clientY - box.top + seen[1] - HEAD) / HEIGHT), at = Math.floor((event.clientX - box.left + seen[0]) / wide());
      const each = cell().prompts[row];
      return each && at >= 0 && at < each.s.length ? [row, at] : null;
    };
    canvas.addEventListener("mousemove", (event) => {
      const found = point(event);
      if (!found) return;
      const each = cell().prompts[found[0]];
      where.textContent = `${each.id}, position ${found[1]}: ${CODES[each.s[found[1]]]}, KL ${digits(each.kl[found[1]])} nats, Δlogit ${digits(each.delta[found[1]])}, rank ${each.rank[found[1]] ?? "–"}`;
    });
    canvas.addEventListener("click", (event) => { const found = point(event); if (found) go(state.cell, ...found); });
    canvas.addEventListener("wheel", (event) => { if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY < 0 ? 1 : -1)(); } }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (step) {
        const row = Math.max(0, Math.min(state.prompt + step[0], cell().prompts.length - 1));
        const at = Math.max(0, Math.min(state.at + step[1], cell().prompts[row].s.length - 1));
        if (row === state.prompt) { select(at); reach(); marked(); } else go(state.cell, row, at);
      } else if (event.key === "+" || event.key === "=") zoom(1)();
      else if (event.key === "-") zoom(-1)();
      else if (event.key === "Enter") body.focus();
      else return;
      event.preventDefault();
    });
    body.addEventListener("mouseover", (event) => {
      const span = event.target.closest(".token");
      if (span && Number(span.dataset.at) !== state.at) { select(Number(span.dataset.at), false); }
    });
    body.addEventListener("click", (event) => { if (event.target.closest(".token")) { reach(); marked(); } });
    body.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10, Home: -1e9, End: 1e9 }[event.key];
      if (step === undefined) return;
      select(state.at + step); reach(); marked();
      event.preventDefault();
    });
    let waiting = false;
    map.addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } });
    new ResizeObserver(draw).observe(map);
    const follow = () => {
      const found = /^#at-(\d+)-(\d+)(?:-(\d+))?$/.exec(location.hash);
      if (!found || !data.cells[found[1]] || !data.cells[found[1]].prompts[found[2]]) return;
      for (let part = place.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
      go(Number(found[1]), Number(found[2]), found[3] === undefined ? null : Number(found[3]));
      place.scrollIntoView();
    };
    window.addEventListener("hashchange", follow);
    // A link that is followed twice changes no hash.
    document.addEventListener("click", (event) => { const link = event.target.closest("a[href^='#at-']"); if (link && link.hash === location.hash) follow(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    legend(); go(data.start[0], data.start[1], null); follow();
  }

  // Runs that go on, where a server is asked; one that has ended is in the list of a fresh page.
  for (const place of document.querySelectorAll("[data-live]")) {
    let before = place.children.length;
    setInterval(async () => {
      const answer = await fetch("/live.json").catch(() => null);
      if (!answer || !answer.ok) return;
      const runs = await answer.json();
      place.replaceChildren(...runs.map((run) => make("p", {}, `${run.contract}: ${run.done} of ${run.total} jobs, last ${run.what}`)));
      if (runs.length < before) location.reload();
      before = runs.length;
    }, 1000);
  }

  window.addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details.part")) part.open = true; });
})();
