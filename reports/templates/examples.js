// The example explorer: unpacks the data blocks of the page, filters, pages. Text from data is only ever set
// as text content, inside <bdi>, so that nothing in it can be code or turn the text around it.
(() => {
  const by = (id) => document.getElementById(id);
  const blocks = [...document.querySelectorAll('script[id^="examples-"]')];
  const loaded = new Map();
  const state = { tasks: [], found: [], page: 0 };

  async function load(index) {
    if (!loaded.has(index)) loaded.set(index, unpack(blocks[index]));
    return loaded.get(index);
  }

  async function unpack(block) {
    if (block.type === "application/json") return JSON.parse(block.textContent);
    if (typeof DecompressionStream === "undefined")
      throw new Error("This browser cannot unpack the examples (no DecompressionStream).");
    const binary = atob(block.textContent.trim());
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  // --- what is right -------------------------------------------------------------------------

  // With several seeds an example counts as right when most of them are.
  function isRight(row, i) {
    let right = 0;
    for (const seed of row.seeds) if (seed.right[i] === "1") right++;
    return 2 * right > row.seeds.length;
  }

  // Most strategies give one and the same answer: with all of them wrong, the reference may be.
  function agree(task, i) {
    const often = new Map();
    for (const row of task.rows) {
      const answer = textOf(row.seeds[0].out[i]).trim().toLowerCase();
      often.set(answer, (often.get(answer) ?? 0) + 1);
    }
    const [answer, n] = [...often].reduce((a, b) => (b[1] > a[1] ? b : a));
    return answer !== "" && n >= 2 && 2 * n > task.rows.length;
  }

  const number = (x) => x.toLocaleString("en");
  const textOf = (value) => (Array.isArray(value) ? value[0] : value);

  function haystack(task, i) {
    task.search ??= [];
    if (task.search[i] === undefined) {
      const parts = [task.ids[i], ...task.inputs[i].map(textOf), ...task.references[i].map(textOf)];
      for (const row of task.rows) for (const seed of row.seeds) parts.push(textOf(seed.out[i]));
      task.search[i] = parts.join("\n").toLowerCase();
    }
    return task.search[i];
  }

  function matches(task, i, wanted) {
    if (wanted.label && !task.references[i].some((r) => textOf(r) === wanted.label)) return false;
    if (wanted.mode === "pair") {
      const right = task.rows.find((r) => r.label === wanted.right);
      const wrong = task.rows.find((r) => r.label === wanted.wrong);
      if (!right || !wrong || !isRight(right, i) || isRight(wrong, i)) return false;
    } else if (wanted.mode !== "any") {
      const right = task.rows.filter((r) => isRight(r, i)).length;
      if ((wanted.mode === "wrong" || wanted.mode === "agree") && right !== 0) return false;
      if (wanted.mode === "agree" && !agree(task, i)) return false;
      if (wanted.mode === "right" && right !== task.rows.length) return false;
      if (wanted.mode === "split" && (right === 0 || right === task.rows.length)) return false;
    }
    return !wanted.text || haystack(task, i).includes(wanted.text);
  }

  // --- what is shown -------------------------------------------------------------------------

  function make(tag, css, ...children) {
    const node = document.createElement(tag);
    if (css) node.className = css;
    node.append(...children);
    return node;
  }

  // Text from data, isolated; when it was cut, with a note of how much is missing and where it is.
  function data(value, where) {
    const node = document.createElement("bdi");
    node.textContent = textOf(value);
    if (!Array.isArray(value)) return [node];
    const missing = (value[1] - value[0].length).toLocaleString("en");
    return [node, make("span", "note", ` … ${missing} more characters${where ? ` in ${where}` : ""}`)];
  }

  function article(task, i) {
    const asked = make("div", "asked-of", make("p", "id", ...data(task.ids[i]), state.tasks.length > 1 ? ` · ${task.name}` : ""));
    task.fields.forEach((name, k) => {
      if (textOf(task.inputs[i][k]) === "") return;
      asked.append(make("p", "field", ...data(name)), make("p", "data", ...data(task.inputs[i][k], "tasks/*/test.jsonl")));
    });
    asked.append(make("p", "field", task.references[i].length > 1 ? "references, any of" : "reference"));
    for (const r of task.references[i]) asked.append(make("p", "data", ...data(r, "tasks/*/test.jsonl")));

    const body = document.createElement("tbody");
    for (const row of task.rows) for (const group of same(row, i)) body.append(output(task, row, group, i));
    const heads = ["strategy", "right?", "score", "output", "tokens"].map((word) => {
      const th = make("th", "", word);
      th.scope = "col";
      return th;
    });
    const table = make("table", "outputs", make("caption", "hidden", `Outputs for ${task.ids[i]}`),
      make("thead", "hidden", make("tr", "", ...heads)), body);
    return make("article", "example", asked, table);
  }

  // Seeds that gave the same output share a line.
  function same(row, i) {
    const groups = new Map();
    for (const seed of row.seeds) {
      const key = JSON.stringify([seed.out[i], seed.score[i]]);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(seed);
    }
    return [...groups.values()];
  }

  function output(task, row, seeds, i) {
    const seed = seeds[0], right = seed.right[i] === "1";
    const name = make("th", "", ...data(row.label));
    name.scope = "row";
    if (row.seeds.length > 1)
      name.append(make("span", "seed", seeds.length === row.seeds.length ? `all ${seeds.length} seeds` : seeds.map((s) => s.name).join(", ")));
    const said = make("td", "data"), text = textOf(seed.out[i]);
    if (text === "") said.append(make("span", "note", "(empty)"));
    said.append(make("div", text.length > 700 ? "tall" : "", ...data(seed.out[i], `cells/${seed.cell}/predictions.jsonl`)));
    if (text.length > 700) said.firstChild.tabIndex = 0;
    const extra = [];
    if (seed.finish?.[i]) extra.push(seed.finish[i] === "length" ? "cut off at the length limit" : `ended by ${seed.finish[i]}`);
    if (seed.detail?.[i]) extra.push(seed.detail[i]);
    if (extra.length) said.append(make("span", "extra", ...data(extra.join(" · "))));
    const passages = seed.passages?.[i] ?? [];
    if (passages.length) said.append(shown(task, passages));
    return make("tr", "", name,
      make("td", `verdict ${right ? "yes" : "no"}`, right ? "✓" : "✗", make("span", "hidden", right ? " right" : " wrong")),
      make("td", "n", seed.score[i].toLocaleString("en", { maximumFractionDigits: 3 })), said,
      make("td", "n tokens", seed.tokens ? `${number(seed.tokens[i][0])} in, ${number(seed.tokens[i][1])} out` : ""));
  }

  // Documents are written into the page only when somebody asks.
  function shown(task, passages) {
    const box = make("details", "", make("summary", "", `${passages.length} ${passages.length === 1 ? "document" : "documents"} shown`));
    box.addEventListener("toggle", () => {
      if (!box.open || box.childElementCount > 1) return;
      for (const k of passages) {
        const [id, title, text] = task.documents[k];
        box.append(make("p", "data", make("b", "", ...data(title || id)), "\n", ...data(text, "tasks/*/documents.jsonl")));
      }
    });
    return box;
  }

  // --- the form ------------------------------------------------------------------------------

  function fill(select, words, first) {
    const before = select.value;
    select.replaceChildren(...(first ? [new Option(first, "")] : []), ...words.map((w) => new Option(w, w)));
    if (words.includes(before)) select.value = before;
  }

  async function choose() {
    const wanted = by("x-task").value;
    const indices = wanted === "all" ? blocks.map((_, i) => i) : [Number(wanted)];
    by("x-count").textContent = "Unpacking …";
    state.tasks = await Promise.all(indices.map(load));
    const rows = [...new Set(state.tasks.flatMap((t) => t.rows.map((r) => r.label)))];
    fill(by("x-right"), rows);
    fill(by("x-wrong"), rows);
    if (by("x-right").value === by("x-wrong").value && rows.length > 1) by("x-wrong").selectedIndex = 1;
    const labels = [...new Set(state.tasks.flatMap((t) => t.labels ?? []))];
    fill(by("x-label"), labels, "any");
    by("x-label-box").hidden = labels.length === 0;
    filter();
  }

  function filter() {
    const wanted = {
      mode: by("x-mode").value, right: by("x-right").value, wrong: by("x-wrong").value,
      label: by("x-label").value, text: by("x-text").value.trim().toLowerCase(),
    };
    by("x-pair").hidden = wanted.mode !== "pair";
    state.found = [];
    for (const task of state.tasks)
      for (let i = 0; i < task.ids.length; i++) if (matches(task, i, wanted)) state.found.push([task, i]);
    state.page = 0;
    show();
  }

  function show() {
    const size = Number(by("x-size").value), total = state.found.length;
    const all = state.tasks.reduce((n, t) => n + t.ids.length, 0);
    const start = state.page * size, end = Math.min(start + size, total);
    by("x-list").replaceChildren(...state.found.slice(start, end).map(([task, i]) => article(task, i)));
    by("x-count").textContent = total === 0 ? `None of ${number(all)} examples` : `${number(start + 1)} to ${number(end)} of ${number(total)} examples${total < all ? `, ${number(all)} in all` : ""}`;
    for (const id of ["x-previous", "x-previous-2"]) by(id).disabled = state.page === 0;
    for (const id of ["x-next", "x-next-2"]) by(id).disabled = end >= total;
    by("x-bottom").hidden = total <= size;
  }

  function turn(step) {
    state.page += step;
    show();
    if (by("x-list").getBoundingClientRect().top < 0) by("examples").scrollIntoView();
  }

  function broken(error) {
    by("x-count").textContent = `${error.message} All outputs are in the run folder as cells/*/predictions.jsonl.`;
  }

  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); };
  by("explorer").addEventListener("submit", (event) => event.preventDefault());
  by("x-task").addEventListener("change", () => choose().catch(broken));
  for (const id of ["x-mode", "x-right", "x-wrong", "x-label"]) by(id).addEventListener("change", filter);
  by("x-size").addEventListener("change", () => { state.page = 0; show(); });
  by("x-text").addEventListener("input", soon);
  for (const [id, step] of [["x-previous", -1], ["x-next", 1], ["x-previous-2", -1], ["x-next-2", 1]])
    by(id).addEventListener("click", () => turn(step));
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a[data-task]");
    if (!link) return;
    by("x-task").value = link.dataset.task;
    by("x-mode").value = link.dataset.mode ?? "pair";
    by("x-text").value = "";
    try { await choose(); } catch (error) { return broken(error); }
    by("x-label").value = link.dataset.label ?? "";
    if (link.dataset.right) {
      by("x-right").value = link.dataset.right;
      by("x-wrong").value = link.dataset.wrong;
    }
    filter();
  });
  by("explorer").hidden = false;
  if (blocks.length) choose().catch(broken);
})();
