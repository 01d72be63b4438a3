"use strict";
// Tables whose rows can be chosen, and gathered under what stands in a column; every text is in the page already.
(() => {
  const MOST = 12;
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const labelled = (text, input) => make("label", {}, text, input);
  const choice = (options, changed) => {
    const select = make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
    select.addEventListener("change", changed);
    return select;
  };
  const pressed = (text, changed) => {
    const button = make("button", { type: "button" }, text);
    button.addEventListener("click", changed);
    return button;
  };

  for (const table of document.querySelectorAll("table[data-filters]")) choosable(table);

  function choosable(table) {
    const place = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const rows = [...place.rows].filter((row) => !row.classList.contains("notes")).map((row) => ({
      row, texts: [...row.cells].map((cell) => cell.textContent), words: row.textContent.toLowerCase(), bad: row.cells[0].className.includes("bad"),
      notes: row.nextElementSibling && row.nextElementSibling.classList.contains("notes") ? row.nextElementSibling : null,
    }));
    const chosen = new Map(), folded = new Set();
    let groups = [];
    const values = (n) => [...new Set(rows.map((each) => each.texts[n]))];
    const count = make("span", { role: "status" });
    const text = make("input", { type: "search", autocomplete: "off" });
    text.addEventListener("input", apply);
    const controls = make("div", { class: "controls" }, labelled("contains", text));
    heads.forEach((head, n) => {
      const all = values(n).sort();
      if (head.classList.contains("number") || all.length < 2 || all.length > MOST) return;
      const select = choice([["", "all"], ...all.map((value) => [value, value || "–"])], () => { chosen.set(n, select.value); apply(); });
      controls.append(labelled(head.textContent, select));
    });
    const axes = heads.map((head, n) => [n, head]).filter(([n, head]) => "gathers" in head.dataset && values(n).length > 1).map(([n]) => n);
    const levels = axes.slice(0, 2).map((_, level) => choice([["", "nothing"], ...axes.map((n) => [n, heads[n].textContent])], () => gather(level)));
    const folds = make("span", { class: "folds hidden" },
      pressed("fold all", () => { for (const group of groups) folded.add(group.key); apply(); }), " ",
      pressed("unfold all", () => { folded.clear(); apply(); }));
    if (levels.length) {
      levels.forEach((select, level) => controls.append(labelled(level ? "then by" : "gather by", select)));
      controls.append(folds);
      // A matrix that fills a screen opens gathered, with what failed unfolded.
      const first = axes.find((n) => values(n).length <= rows.length / 2);
      if (rows.length > MOST && first !== undefined) levels[0].value = String(first);
    }
    controls.append(count);
    table.parentElement.before(controls);
    gather(-1);
    if (groups.length) { for (const group of groups) if (!group.rows.some((each) => each.bad)) folded.add(group.key); apply(); }
    window.addEventListener("beforeprint", () => { folded.clear(); apply(); });

    // Puts rows under the values of the chosen columns, in the order in which these come first.
    function gather(level) {
      for (const group of groups) group.head.remove();
      groups = []; folded.clear();
      if (level === 0 && levels[1] && (levels[0].value === "" || levels[0].value === levels[1].value)) levels[1].value = "";
      const by = [...new Set(levels.map((select) => select.value).filter((value) => value !== ""))].map(Number);
      const part = (members, depth, path) => {
        if (depth === by.length) { for (const each of members) { each.path = path; place.append(each.row, ...(each.notes ? [each.notes] : [])); } return; }
        for (const value of new Set(members.map((each) => each.texts[by[depth]]))) {
          const within = members.filter((each) => each.texts[by[depth]] === value);
          const key = JSON.stringify([...path.map((group) => group.value), value]);
          const group = { key, value, depth, path, rows: within, name: `${heads[by[depth]].textContent} ${value || "–"}` };
          head(group);
          groups.push(group);
          place.append(group.head);
          part(within, depth + 1, [...path, group]);
        }
      };
      part(rows, 0, []);
      folds.classList.toggle("hidden", !groups.length);
      apply();
    }

    function head(group) {
      group.sign = make("span", { class: "sign", "aria-hidden": "true" });
      group.button = make("button", { type: "button" }, group.sign, group.name);
      group.counts = make("span", { class: "quiet" });
      const cell = make("th", { colspan: heads.length, scope: "rowgroup" }, make("div", {}, group.button, group.counts));
      cell.style.paddingLeft = `${1.2 * group.depth}rem`;
      group.head = make("tr", { class: "group" }, cell);
      group.button.addEventListener("click", () => turn(group, folded.has(group.key)));
      group.button.addEventListener("keydown", (event) => {
        const seen = groups.filter((each) => !each.head.classList.contains("hidden")), at = seen.indexOf(group);
        if (event.key === "ArrowRight") turn(group, true);
        else if (event.key === "ArrowLeft" && folded.has(group.key) && group.path.length) group.path.at(-1).button.focus();
        else if (event.key === "ArrowLeft") turn(group, false);
        else if (event.key === "ArrowDown") (seen[at + 1] || group).button.focus();
        else if (event.key === "ArrowUp") (seen[at - 1] || group).button.focus();
        else if (event.key === "Home") seen[0].button.focus();
        else if (event.key === "End") seen.at(-1).button.focus();
        else return;
        event.preventDefault();
      });
    }

    function turn(group, open) {
      if (open) folded.delete(group.key); else folded.add(group.key);
      apply();
    }

    function apply() {
      const wanted = text.value.toLowerCase();
      let fitting = 0, away = 0;
      for (const each of rows) {
        each.fits = [...chosen].every(([n, value]) => value === "" || each.texts[n] === value) && each.words.includes(wanted);
        const hidden = each.fits && (each.path || []).some((group) => folded.has(group.key));
        fitting += each.fits; away += hidden;
        each.row.classList.toggle("hidden", !each.fits || hidden);
        if (each.notes) each.notes.classList.toggle("hidden", !each.fits || hidden);
      }
      for (const group of groups) {
        const fit = group.rows.filter((each) => each.fits), statuses = new Map();
        for (const each of fit) statuses.set(each.texts[0], (statuses.get(each.texts[0]) || 0) + 1);
        group.head.classList.toggle("hidden", !fit.length || group.path.some((outer) => folded.has(outer.key)));
        group.button.setAttribute("aria-expanded", String(!folded.has(group.key)));
        group.sign.textContent = folded.has(group.key) ? "▸" : "▾";
        group.counts.textContent = `${fit.length} of ${group.rows.length}: ${[...statuses].map(([name, times]) => `${times} × ${name}`).join(", ")}`;
      }
      count.textContent = `${fitting} of ${rows.length} rows${away ? `, ${away} folded away` : ""}`;
    }
  }
})();
