// The knobs of the page: a slider each, and what follows them. Text from data is only ever set as text content.
(() => {
  const { money, percent, plural, count, times } = breakeven;
  const MANTISSAS = [1, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9];
  const SLOW = 250;

  // Round numbers from one power of ten to another, and `own` among them.
  function scale(from, to, own) {
    const values = [];
    for (let e = from; e < to; e++) for (const m of MANTISSAS) values.push(Number(`${m}e${e}`));
    values.push(Number(`1e${to}`));
    if (own !== null && own > 0 && !values.includes(own)) values.push(own);
    return values.sort((a, b) => a - b);
  }

  const SCALES = {
    requests: (own) => scale(0, 9, own),
    value: (own) => [null, ...scale(-6, 4, own)],
    months: (own) => Array.from({ length: Math.max(60, own) }, (_, k) => k + 1),
    machine: (own) => scale(-2, 3, own),
    tokens: (own) => scale(-2, 3, own),
  };

  function said(c, knob, value) {
    if (knob === "requests") return count(value);
    if (knob === "months") return plural(value, "month");
    if (knob === "value") return value === null ? "not said" : money(c, value);
    if (knob === "machine" && c.hour !== null) return `${money(c, value * c.hour[1])} (${times(value)} times its price)`;
    return `${times(value)} times their price`;
  }

  // --- text and tables -------------------------------------------------------------------------

  function make(tag, css, ...children) {
    const node = document.createElement(tag);
    if (css) node.className = css;
    node.append(...children);
    return node;
  }

  // A sentence: the name of a strategy, a list of one, is set apart and isolated.
  function sentence(parts) {
    return parts.filter((part) => part !== "").map((part) =>
      Array.isArray(part) ? make("b", [...part[0]].length <= 32 ? "name short" : "name", make("bdi", "", part[0])) : part);
  }

  function row(head, cells) {
    const name = make("th", "", make("bdi", "", head));
    name.scope = "row";
    return make("tr", "", name, ...cells.map((cell) => make("td", "n", cell)));
  }

  function setAll(root, selector, text) {
    for (const node of root.querySelectorAll(selector)) node.textContent = text;
  }

  // --- a task ----------------------------------------------------------------------------------

  function decision(root, c) {
    const at = (role) => root.querySelector(`[data-role="${role}"]`);
    const overview = document.querySelector(`[data-overview="${root.dataset.case}"]`);
    const knobs = { ...c.knobs };
    let waiting = 0, frame = 0;

    function words(told) {
      const word = told.answer ? [make("b", `answer ${told.answer.toLowerCase().replace(" ", "-")}`, told.answer)] : [];
      at("headline").replaceChildren(...word, ...sentence(told.headline));
      at("basis").replaceChildren(...sentence(told.basis));
      for (const role of ["why", "flips", "testing"])
        at(role).replaceChildren(...told[role].map((s) => make("li", "", ...sentence(s))));
      if (overview) told.overview.forEach((text, k) => { overview.querySelector(`[data-cell="${k}"]`).textContent = text; });
    }

    function tables(verdict) {
      setAll(root, '[data-role="months"]', plural(knobs.months, "month"));
      root.classList.toggle("valued", knobs.value !== null);
      c.candidates.forEach((own, i) => {
        const known = (value) => (own.known ? money(c, value()) : "unknown"), total = (months) => breakeven.total(own, c.economics, knobs, months);
        const standing = own.dropped.length === 0, best = !standing ? "left out" : c.alone ? "–" : percent(verdict.best[i]);
        const cells = {
          year: known(() => total(12)), cash: known(() => total(0)), month: known(() => breakeven.month(own, c.economics, knobs)),
          total: known(() => total(knobs.months)), payback: payback(own, i), best, sure: best,
          benefit: verdict.mode === "value" && standing ? money(c, verdict.mean[i]) : "",
          regret: verdict.mode === "value" && standing ? money(c, verdict.regret[i]) : "",
        };
        for (const line of root.querySelectorAll(`[data-row="${i}"]`)) {
          line.classList.toggle("chosen", i === verdict.choice);
          for (const pick of line.querySelectorAll(".pick")) pick.hidden = i !== verdict.choice;
          for (const [key, text] of Object.entries(cells)) setAll(line, `[data-cell="${key}"]`, text);
        }
        breakeven.amounts(own, c.economics, knobs).forEach((amount, k) =>
          setAll(root, `[data-line="${i}-${k}"]`, amount === null ? "unknown" : money(c, amount)));
      });
    }

    function payback(own, i) {
      if (c.incumbent === null || i === c.incumbent || !own.known) return "";
      const today = c.candidates[c.incumbent];
      if (!today.known) return "unknown";
      const month = breakeven.payback(own, today, c.economics, knobs);
      return month === null ? "never" : `month ${month}`;
    }

    function figures(verdict) {
      const draw = (role, plots) => {
        at(role).querySelectorAll("svg.figure").forEach((old, k) => old.replaceWith(plots[k]));
      };
      const { choice } = verdict, others = c.standing.filter((i) => i !== choice);
      const crossings = others.map((i) => [i, breakeven.cheaper(c.candidates[i], c.candidates[choice], c.economics, knobs)]);
      const meets = crossings.flatMap(([i, found]) => found.flat().filter((x) => x > 0 && x < Infinity).map((x) => [i, x]));
      draw("quality", breakeven.qualityPlots(c, choice, knobs));
      draw("volume", breakeven.volumePlots(c, choice, knobs, meets));
      setAll(root, '[data-role="choice"]', c.candidates[choice].label);
      at("break-evens").replaceChildren(...crossings.map(([i, found]) => row(c.candidates[i].label, [breakeven.volumesSaid(found)])));
      const shares = breakeven.sharePlots(c, choice, knobs);
      draw("shares", shares.plots);
      const heads = shares.heads.map((text) => { const th = make("th", "n", text); th.scope = "col"; return th; });
      const first = make("th", "", "strategy");
      first.scope = "col";
      at("share-heads").replaceChildren(first, ...heads);
      at("share-rows").replaceChildren(...c.standing.map((i, k) => row(c.candidates[i].label, shares.rows[k])));
    }

    function update() {
      const told = breakeven.told(c, knobs);
      words(told);
      tables(told.verdict);
      figures(told.verdict);
      clearTimeout(waiting);
      waiting = setTimeout(() => { at("status").textContent = `${told.answer}${told.headline.flat().join("")}`; }, SLOW);
      return told;
    }

    function show(input, scale) {
      const knob = input.dataset.knob, text = said(c, knob, knobs[knob]);
      input.value = scale.indexOf(knobs[knob]);
      input.setAttribute("aria-valuetext", text);
      root.querySelector(`[data-said="${knob}"]`).textContent = text;
    }

    const sliders = [...root.querySelectorAll("input[data-knob]")].map((input) => {
      const scale = SCALES[input.dataset.knob](c.knobs[input.dataset.knob]);
      input.max = scale.length - 1;
      input.hidden = false;
      input.addEventListener("input", () => {
        knobs[input.dataset.knob] = scale[Number(input.value)];
        show(input, scale);
        reset.hidden = false;
        cancelAnimationFrame(frame);
        frame = requestAnimationFrame(update);
      });
      show(input, scale);
      return () => show(input, scale);
    });
    const reset = at("reset");
    reset.addEventListener("click", () => {
      Object.assign(knobs, c.knobs);
      for (const again of sliders) again();
      update();
      root.querySelector("input[data-knob]").focus();
      reset.hidden = true;
    });
    at("turn").hidden = false;
    return { root, knobs, case: c, update };
  }

  // What is folded away is printed too.
  addEventListener("beforeprint", () => { for (const box of document.querySelectorAll("details.block, figure details")) box.open = true; });

  breakeven.decisions = [...document.querySelectorAll("[data-case]")].map((root) => {
    const block = document.getElementById(`case-${root.dataset.case}`);
    return block ? decision(root, breakeven.open(JSON.parse(block.textContent))) : null;
  });
})();
