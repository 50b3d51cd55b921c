// The figures of a decision, drawn again when a knob is turned: the twin of reports/_svg.py, _plots.py (scatter) and
// _figures.py. Text from data is only ever set as text content.
Object.assign(breakeven, (() => {
  const { fixed, exponent, money, volume, percent, WORTHS } = breakeven;
  const CHARACTER = 0.58, MOST_NAMES = 10, PER_DECADE = 20, LINE = 14, SEEN = 0.01, MISTAKEN = 250, CLEAR = 4;
  const SCATTER = [
    { width: 670, height: 400, left: 56, right: 16, top: 32, bottom: 50, font: 12.5, ticks: 7, band: 64, css: "wide" },
    { width: 352, height: 330, left: 42, right: 8, top: 32, bottom: 48, font: 12.5, ticks: 4, band: 40, css: "narrow" }];
  const LINES = [
    { width: 670, height: 400, left: 74, right: 176, top: 32, bottom: 50, ticks: 6, css: "wide" },
    { width: 352, height: 330, left: 74, right: 40, top: 32, bottom: 48, ticks: 4, css: "narrow" }];

  // --- parts -----------------------------------------------------------------------------------

  const short = (x) => fixed(x, 1);

  function node(tag, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const line = (x0, y0, x1, y1, css) => node("line", { class: css, x1: short(x0), y1: short(y0), x2: short(x1), y2: short(y1) });
  const text = (x, y, content, css, anchor = "start") =>
    node("text", { x: short(x), y: short(y), class: css, "text-anchor": anchor, "unicode-bidi": "isolate" }, content);
  const polyline = (points, css) => node("polyline", { class: css, points: points.map(([x, y]) => `${short(x)},${short(y)}`).join(" ") });
  const ring = (x, y, css) => node("circle", { class: css, cx: short(x), cy: short(y), r: "10.0" });

  function mark(family, x, y, hollow = false) {
    const css = `mark ${family}${hollow ? " hollow" : ""}`, size = 5.5;
    if (family === "prompting") return node("circle", { class: css, cx: short(x), cy: short(y), r: short(size) });
    const [corners, turn, inner, grow] = {
      given: [3, Math.PI, 1, 1.3], "no-model": [4, Math.PI / 4, 1, 1.25], retrieval: [4, 0, 1, 1.25],
      tuned: [3, 0, 1, 1.3], "tuned-retrieval": [10, 0, 0.48, 1.45] }[family];
    const points = Array.from({ length: corners }, (_, i) => {
      const radius = size * grow * (i % 2 ? inner : 1), angle = turn + (2 * Math.PI * i) / corners;
      return `${short(x + radius * Math.sin(angle))},${short(y - radius * Math.cos(angle))}`;
    });
    return node("polygon", { class: css, points: points.join(" ") });
  }

  function picture(shape, title, parts) {
    const svg = node("svg", { class: `figure ${shape.css}`, viewBox: `0 0 ${shape.width} ${shape.height}`,
      width: shape.width, height: shape.height, role: "img", "aria-label": `${title}; the data is in the table` });
    svg.append(...parts);
    return svg;
  }

  // --- scales ----------------------------------------------------------------------------------

  const linear = ([a, b], [p, q]) => (x) => p + ((q - p) * (x - a)) / (b - a);

  function logarithmic([a, b], pixels) {
    const scale = linear([Math.log10(a), Math.log10(b)], pixels);
    return (x) => scale(Math.log10(x));
  }

  function linearTicks(low, high, wanted) {
    const power = Number(`1e${Math.floor(Math.log10((high - low) / wanted))}`);
    const step = power * [1, 2, 5, 10].find((m) => (high - low) / (power * m) <= wanted + 0.5);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i++) ticks.push(Number((i * step).toFixed(12)));
    return ticks;
  }

  function logTicks(low, high, wanted) {
    let ticks = [];
    for (const factors of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]) {
      ticks = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
        for (const m of factors) if (low * 0.999 <= m * Number(`1e${e}`) && m * Number(`1e${e}`) <= high * 1.001) ticks.push(m * Number(`1e${e}`));
      if (ticks.length <= wanted) return ticks;
    }
    return ticks.filter((_, i) => i % Math.ceil(ticks.length / wanted) === 0);
  }

  const rounded = (amount) => amount.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(". ", " ").replace(/\.$/, "");
  const label = (word, limit = 30) => ([...word].length <= limit ? word : `${[...word].slice(0, limit - 1).join("")}…`);
  const tickText = (x) => String(Number(x.toPrecision(6))).replace("-", "−");

  // --- names that do not overlap ---------------------------------------------------------------

  function overlap(a, b) {
    const width = Math.min(a.x1, b.x1) - Math.max(a.x0, b.x0), height = Math.min(a.y1, b.y1) - Math.max(a.y0, b.y0);
    return width > 0 && height > 0 ? width * height : 0;
  }

  const outside = (a, frame) => Math.max(0, frame.x0 - a.x0) + Math.max(0, a.x1 - frame.x1) +
    Math.max(0, frame.y0 - a.y0) + Math.max(0, a.y1 - frame.y1);

  const distance = (a, x, y) => Math.hypot(Math.max(a.x0 - x, 0, x - a.x1), Math.max(a.y0 - y, 0, y - a.y1));

  function place(labels, taken, frame, size) {
    const crowd = labels.map((a) => labels.reduce((sum, b) => sum + 1 / (20 + Math.hypot(a.x - b.x, a.y - b.y)), 0));
    const order = labels.map((_, i) => i).sort((i, j) => crowd[j] - crowd[i]), chosen = [];
    for (let round = 0; round < 3; round++)
      for (const i of order) {
        let found = null;
        for (const [penalty, far, box] of places(labels[i], size)) {
          let cost = penalty + 100 * outside(box, frame);
          cost += 2 * taken.reduce((sum, o) => sum + overlap(box, o), 0);
          cost += 8 * chosen.reduce((sum, o, j) => sum + (j === i || !o ? 0 : overlap(box, o.box)), 0);
          const own = distance(box, labels[i].x, labels[i].y) + CLEAR;
          cost += MISTAKEN * labels.reduce((sum, o, j) => sum + (j !== i && distance(box, o.x, o.y) < own ? 1 : 0), 0);
          if (found === null || cost < found.cost) found = { cost, box, far };
        }
        chosen[i] = found;
      }
    return chosen;
  }

  function* places(at, size) {
    const width = CHARACTER * size * [...at.text].length + 2, height = size * 1.15;
    for (const [ring, reach] of [10, 18, 28, 40, 56, 74].entries())
      for (let step = 0; step < 16; step++) {
        const angle = (2 * Math.PI * step) / 16, dx = Math.cos(angle), dy = Math.sin(angle);
        const x = at.x + reach * dx, y = at.y + reach * dy;
        const x0 = dx > 0.3 ? x : dx < -0.3 ? x - width : x - width / 2, y0 = y - height / 2 + (dy * height) / 2;
        yield [ring * 12 + step * 0.05 + (Math.abs(dy) > 0.9 ? 1 : 0), ring >= 2, { x0, y0, x1: x0 + width, y1: y0 + height }];
      }
  }

  // --- quality against cost --------------------------------------------------------------------

  function qualityPlots(c, choice, knobs) {
    const dots = c.candidates.map((own, i) => ({ text: own.label, family: own.family, x: own.known ? breakeven.cost(c, i, knobs) : null,
      quality: c.score_mean[i], ends: own.ends, hollow: own.dropped.length > 0, chosen: i === choice }));
    const title = `cost over ${breakeven.plural(knobs.months, "month")}`;
    const today = c.incumbent === null ? null : dots[c.incumbent].quality;
    return SCATTER.map((shape) => scatter(c, dots, title, today, shape));
  }

  function scatter(c, dots, title, reference, shape) {
    const numbered = shape.css === "narrow" || dots.length > MOST_NAMES, right = shape.width - shape.right;
    const [low, high] = valueRange(c, dots), y = linear([low, high], [shape.height - shape.bottom, shape.top]);
    const [xs, parts] = columns(dots.map((d) => d.x), title, (x) => rounded(money(c, x)), money(c, 0), shape);
    for (const tick of linearTicks(low, high, 5))
      parts.push(line(shape.left, y(tick), right, y(tick), "grid"), text(shape.left - 7, y(tick) + 4, tickText(tick), "tick", "end"));
    parts.push(text(2, 13, c.higher ? c.metric : `${c.metric} (lower is better)`, "axis-title"));
    const taken = [];
    if (reference !== null) {
      parts.push(line(shape.left, y(reference), right, y(reference), "reference-line"));
      taken.push({ x0: shape.left, y0: y(reference) - 3, x1: right, y1: y(reference) + 3 });
    }
    parts.push(polyline(pareto(c, dots).map((i) => [xs[i], y(dots[i].quality)]), "pareto"));
    const labels = dots.map((dot, i) => {
      const x = xs[i], at = y(dot.quality);
      if (dot.ends[0] !== null) {
        const [y0, y1] = dot.ends.map(y), css = `whisker ${dot.family}`;
        parts.push(line(x, y0, x, y1, css), line(x - 3, y0, x + 3, y0, css), line(x - 3, y1, x + 3, y1, css));
        taken.push({ x0: x - 3, y0: Math.min(y0, y1), x1: x + 3, y1: Math.max(y0, y1) });
      }
      taken.push({ x0: x - 8, y0: at - 8, x1: x + 8, y1: at + 8 });
      return { x, y: at, text: numbered ? String(i + 1) : label(dot.text) };
    });
    dots.forEach((dot, i) => {
      if (dot.chosen) parts.push(ring(xs[i], y(dot.quality), "chosen"));
      parts.push(mark(dot.family, xs[i], y(dot.quality), dot.hollow));
    });
    const frame = { x0: shape.left, y0: shape.top - 4, x1: shape.width - 2, y1: shape.height - shape.bottom };
    place(labels, taken, frame, shape.font).forEach(({ box, far }, i) => {
      const at = labels[i], near = (x, a, b) => Math.min(Math.max(x, a), b);
      if (far) parts.push(line(at.x, at.y, near(at.x, box.x0, box.x1), near(at.y, box.y0, box.y1), "leader"));
      parts.push(text(box.x0 + 1, box.y1 - 3.5, at.text, "label"));
    });
    return picture(shape, `${c.metric} against ${title} of ${dots.length} strategies`, parts);
  }

  function valueRange(c, dots) {
    const ends = dots.flatMap((d) => [d.quality, ...d.ends]).filter((x) => x !== null);
    let low = Math.min(...ends), high = Math.max(...ends);
    const air = (high - low) * 0.06 || 0.05 * (Math.abs(high) || 1);
    [low, high] = [low - air, high + air];
    if (c.range === null) return [low, high];
    [low, high] = [Math.max(low, c.range[0]), Math.min(high, c.range[1])];
    return low >= high ? c.range : [low, high];
  }

  function pareto(c, dots) {
    const loss = (i) => (c.higher ? -dots[i].quality : dots[i].quality), found = [];
    const known = dots.map((_, i) => i).filter((i) => dots[i].x !== null);
    known.sort((i, j) => dots[i].x - dots[j].x || loss(i) - loss(j) || i - j);
    let best = Infinity;
    for (const i of known) if (loss(i) < best) { best = loss(i); found.push(i); }
    return found;
  }

  // A column for zero on the left, a log scale, a column for unknown on the right.
  function columns(values, title, say, zero, shape) {
    const left = shape.left, right = shape.width - shape.right, base = shape.height - shape.bottom;
    const known = values.filter((v) => v), xs = values.map(() => 0), parts = [line(left, base, right, base, "axis")], words = [];
    const rows = [values.flatMap((v, i) => (v === 0 ? [i] : [])), values.flatMap((v, i) => (v === null ? [i] : []))];
    const wanted = rows.map((r) => (r.length ? shape.band + 14 * (r.length - 1) : 0)), room = (right - left) / Math.max(wanted[0] + wanted[1], 1);
    const [none, unknown] = wanted.map((w) => (known.length ? Math.min(1, room / 2) : room) * w);
    const bands = [[zero, rows[0], left, none], ["unknown", rows[1], right - unknown, unknown]].filter((b) => b[1].length);
    for (const [word, found, start, width] of bands) {
      found.forEach((i, k) => { xs[i] = start + (width * (k + 1)) / (found.length + 1); });
      parts.push(text(start + width / 2, base + 17, word, "tick", "middle"));
      words.push([start + width / 2, word]);
      const border = start === left ? start + width : start;
      if (left < border && border < right) parts.push(line(border, shape.top, border, base + 6, "border"));
    }
    if (known.length) {
      const start = Math.max(left, ...bands.filter((b) => b[2] === left).map((b) => b[2] + b[3]));
      const end = Math.min(right, ...bands.filter((b) => b[2] !== left).map((b) => b[2]));
      const low = Math.min(...known) / 1.5, high = Math.max(...known) * 1.7, scale = logarithmic([low, high], [start, end]);
      values.forEach((v, i) => { if (v) xs[i] = scale(v); });
      for (const tick of logTicks(low, high, Math.max(2, Math.round((shape.ticks * (end - start)) / shape.width)))) {
        const said = say(tick), x = scale(tick);
        parts.push(line(x, base, x, base + 4, "axis"));
        if (words.every(([other, word]) => Math.abs(x - other) > (CHARACTER * 11.5 * (said.length + word.length)) / 2 + 6)) {
          parts.push(text(x, base + 17, said, "tick", "middle"));
          words.push([x, said]);
        }
      }
    }
    parts.push(text((left + right) / 2, base + 38, `${title}${known.length ? ", log scale" : ""}`, "axis-title", "middle"));
    return [xs, parts];
  }

  // --- lines -----------------------------------------------------------------------------------

  // Volumes of every break-even with the choice: [strategy, volume].
  function meets(c, choice, knobs) {
    return c.standing.filter((i) => i !== choice).flatMap((i) =>
      breakeven.cheaper(c.candidates[i], c.candidates[choice], c.economics, knobs).flat()
        .filter((x) => x > 0 && x < Infinity).map((x) => [i, x]));
  }

  function volumePlots(c, choice, knobs, crossings = meets(c, choice, knobs)) {
    const own = c.knobs.requests, now = knobs.requests, low = Math.min(own / 100, now / 10), high = Math.max(own * 100, now * 10);
    const steps = Math.ceil(PER_DECADE * Math.log10(high / low)), costAt = (i, x) => breakeven.cost(c, i, { ...knobs, requests: x });
    const grid = Array.from({ length: steps + 1 }, (_, k) => low * (high / low) ** (k / steps));
    const lines = c.standing.map((i) => ({ number: i + 1, text: c.candidates[i].label, family: c.candidates[i].family,
      points: grid.map((x) => [x, costAt(i, x)]), mark: [now, breakeven.cost(c, i, knobs)], chosen: i === choice,
      meets: crossings.filter(([j, x]) => j === i && low < x && x < high).map(([, x]) => [x, costAt(i, x)]) }));
    const costs = lines.flatMap((l) => l.points.map((p) => p[1])).filter((x) => x > 0), over = `cost over ${breakeven.plural(knobs.months, "month")}`;
    return LINES.map((shape) => draw(lines, {
      title: `${over} against requests a month of ${lines.length} strategies`, xTitle: "requests a month, log scale",
      yTitle: `${over}, log scale`, x: [low, high], y: costs.length ? [Math.min(...costs) / 1.3, Math.max(...costs) * 1.3] : [1, 10],
      sayX: volume, sayY: (x) => rounded(money(c, x)), now, tall: true }, shape));
  }

  function worthWindow(shares, value) {
    const last = shares.length - 1, still = (k, end) => shares[k].every((x, i) => Math.abs(x - shares[end][i]) < SEEN);
    let first = 0, final = last;
    while (first < last && still(first, 0)) first++;
    while (final > first && still(final, last)) final--;
    if (value) {
      const k = Math.round(10 * (Math.log10(value) + 6));
      [first, final] = [Math.min(first, k), Math.max(final, k)];
    }
    return [Math.max(0, Math.min(first, last) - 5), Math.min(last, Math.max(final, 0) + 5)];
  }

  // The drawings, and the table: its worths and every strategy's shares there.
  function sharePlots(c, choice, knobs, every = 5) {
    const shares = breakeven.bestByWorth(c, WORTHS, knobs), [first, last] = worthWindow(shares, knobs.value), lines = [];
    for (const i of c.standing) {
      const points = shares.slice(first, last + 1).map((row, k) => [WORTHS[first + k], row[i]]);
      const peak = points.reduce((a, b) => (b[1] > a[1] ? b : a));
      if (peak[1] >= SEEN) lines.push({ number: i + 1, text: c.candidates[i].label, family: c.candidates[i].family, points, mark: peak, meets: [], chosen: i === choice });
    }
    const shown = shares.map((_, k) => k).filter((k) => k >= first && k <= last && (k - first) % every === 0);
    const plots = LINES.map((shape) => draw(lines, {
      title: "probability of being best against the worth of a correct answer", xTitle: "worth of a correct answer, log scale",
      yTitle: "probability of being best", x: [WORTHS[first], WORTHS[last]], y: [0, 1], sayX: (x) => rounded(money(c, x)),
      sayY: (x) => rounded(percent(x)), now: knobs.value, tall: false }, shape));
    return { plots, heads: shown.map((k) => money(c, WORTHS[k])), rows: c.standing.map((i) => shown.map((k) => percent(shares[k][i]))) };
  }

  function draw(lines, frame, shape) {
    const left = shape.left, right = shape.width - shape.right, base = shape.height - shape.bottom;
    const x = logarithmic(frame.x, [left, right]), y = (frame.tall ? logarithmic : linear)(frame.y, [base, shape.top]);
    const parts = [text(2, 13, frame.yTitle, "axis-title")], up = (v) => y(Math.max(v, frame.y[0]));
    for (const tick of frame.tall ? logTicks(...frame.y, 6) : linearTicks(...frame.y, 5))
      parts.push(line(left, y(tick), right, y(tick), "grid"), text(left - 7, y(tick) + 4, frame.sayY(tick), "tick", "end"));
    parts.push(line(left, base, right, base, "axis"));
    let end = -Infinity;
    for (const tick of logTicks(...frame.x, shape.ticks)) {
      const at = x(tick), said = frame.sayX(tick), half = (CHARACTER * 11.5 * said.length) / 2;
      parts.push(line(at, base, at, base + 4, "axis"));
      if (at - half > end && at + half < shape.width) {
        parts.push(text(at, base + 17, said, "tick", "middle"));
        end = at + half + 6;
      }
    }
    parts.push(text((left + right) / 2, base + 38, frame.xTitle, "axis-title", "middle"));
    if (frame.now !== null && frame.x[0] <= frame.now && frame.now <= frame.x[1]) parts.push(line(x(frame.now), shape.top, x(frame.now), base, "now"));
    for (const l of lines)
      parts.push(polyline(l.points.map(([a, b]) => [x(a), up(b)]), `curve-line ${l.family} dash${l.number % 4}${l.chosen ? " chosen" : ""}`));
    for (const l of lines) {
      parts.push(...l.meets.map(([a, b]) => ring(x(a), y(b), "meets")));
      if (l.mark !== null) parts.push(mark(l.family, x(l.mark[0]), up(l.mark[1])));
    }
    parts.push(...ends(lines, lines.map((l) => up(l.points.at(-1)[1])), shape));
    return picture(shape, frame.title, parts);
  }

  function ends(lines, heights, shape) {
    const right = shape.width - shape.right, low = shape.top + 4, high = shape.height - shape.bottom, places = [];
    const order = lines.map((_, k) => k).sort((a, b) => heights[a] - heights[b]);
    const gap = Math.min(LINE, (high - low) / Math.max(lines.length - 1, 1));
    for (const k of order) places.push(Math.max(heights[k], places.length ? places.at(-1) + gap : low));
    if (places.length) places[places.length - 1] = Math.min(places.at(-1), high);
    for (let j = places.length - 2; j >= 0; j--) places[j] = Math.min(places[j], places[j + 1] - gap);
    return order.flatMap((k, j) => [line(right + 2, heights[k], right + 12, places[j], "leader"),
      text(right + 15, places[j] + 4, shape.css === "narrow" ? String(lines[k].number) : label(lines[k].text, 22), "label")]);
  }

  return { meets, qualityPlots, volumePlots, sharePlots };
})());
