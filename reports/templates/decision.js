"use strict";
// The decision on the page: the twin of harness/decision.py, ownership.py (totals) and volumes.py, on the draws and
// bills that the page carries. Pure functions; a browser test holds both together.
const breakeven = (() => {
  const SURE = 0.95, STEPS = 65535, SECONDS_A_MONTH = 730 * 3600;
  const REACH = 30, HALVINGS = 60, KNOBS = ["requests", "value", "machine", "tokens"];
  const WORTHS = Array.from({ length: 101 }, (_, k) => 10 ** (k / 10 - 6));
  const GRID = Array.from({ length: 2001 }, (_, k) => 10 ** (k / 200));

  // --- a case ----------------------------------------------------------------------------------

  function unpack([low, span, codes], n) {
    const values = new Float64Array(n).fill(low);
    if (!codes) return values;
    const bytes = Uint8Array.from(atob(codes), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    for (let d = 0; d < n; d++) values[d] = low + (view.getUint16(2 * d, true) / STEPS) * span;
    return values;
  }

  // The case of a data block, with what depends on no knob.
  function open(data) {
    const n = data.draws.n, all = data.candidates.map((_, i) => i);
    const score = data.draws.score.map((x) => unpack(x, n));
    const worth = data.draws.worth.map((x, i) => (x === "score" ? score[i] : unpack(x, n)));
    const [tokens, seconds] = [data.draws.tokens, data.draws.seconds].map((xs) => xs.map((x) => unpack(x, n)));
    const gains = data.higher ? score : score.map((xs) => xs.map((x) => -x));
    const gainMeans = data.higher ? data.score_mean : data.score_mean.map((x) => -x);
    const standing = all.filter((i) => data.candidates[i].dropped.length === 0);
    const floor = data.economics.floor === null ? null : data.higher ? data.economics.floor : -data.economics.floor;
    const bars = new Float64Array(n);
    for (let d = 0; d < n; d++) {
      const reference = data.incumbent !== null ? gains[data.incumbent][d] : Math.max(...standing.map((i) => gains[i][d]));
      bars[d] = reference - data.economics.margin;
    }
    const above = (i, d) => floor === null || gains[i][d] >= floor;
    const notWorse = all.map((i) => share(n, (d) => gains[i][d] >= bars[d]));
    const alone = data.candidates.length === 1;
    return { ...data, n, alone, score, worth, tokens, seconds, gains, gainMeans, standing, floor, bars, above, notWorse };
  }

  const mode = (knobs) => (knobs.value === null ? "cost" : "value");
  const worthOf = (knobs) => (knobs.value === null ? 0 : knobs.value);
  const turned = (knobs, knob, x) => ({ ...knobs, [knob]: x });
  const isTuned = (family) => family === "tuned" || family === "tuned-retrieval";

  function share(n, holds) {
    let found = 0;
    for (let d = 0; d < n; d++) if (holds(d)) found++;
    return found / n;
  }

  // The sum with what rounding drops carried along (Neumaier 1974).
  function mean(values) {
    let sum = 0, lost = 0;
    for (const x of values) {
      const next = sum + x;
      lost += Math.abs(sum) >= Math.abs(x) ? sum - next + x : x - next + sum;
      sum = next;
    }
    return (sum + lost) / values.length;
  }

  const best = (items, key) => items.reduce((a, b) => (key(b) > key(a) ? b : a));

  // --- money -----------------------------------------------------------------------------------

  // Requests of each month over those of the first, and their sum; kept, as every cost asks for them.
  function growth(e, months) {
    e.grown ??= new Map();
    if (!e.grown.has(months)) {
      const powers = Array.from({ length: months }, (_, month) => (1 + e.growth) ** month);
      e.grown.set(months, { powers, sum: powers.reduce((a, b) => a + b, 0) });
    }
    return e.grown.get(months);
  }

  const retrainings = (e, months) => (e.retrain === null ? 0 : Math.max(0, Math.ceil(months / e.retrain) - 1));
  const at = (bill, machine, tokens) => bill[0] + bill[1] * machine + bill[2] * tokens;

  function replicas(e, first, requests, seconds) {
    const peak = e.peak !== null ? e.peak * (requests / first) : (e.peak_factor * requests) / SECONDS_A_MONTH;
    return Math.max(Math.ceil((peak * seconds) / e.utilisation - 1e-9), 1);
  }

  function total(own, e, knobs, months = knobs.months, request = own.request, seconds = own.seconds) {
    const once = at(own.up_front, knobs.machine, knobs.tokens);
    const again = retrainings(e, months) * at(own.retraining, knobs.machine, knobs.tokens);
    const monthly = months * at(own.monthly, knobs.machine, knobs.tokens);
    const served = askedOf(e, knobs, months) * at(request, knobs.machine, knobs.tokens);
    const hosts = own.replica > 0 ? hostsOf(e, knobs, months, seconds) : 0;
    return once + again + monthly + served + hosts * own.replica * knobs.machine;
  }

  const askedOf = (e, knobs, months = knobs.months) => knobs.requests * growth(e, months).sum;

  // Machines over so many months, each counted for every month that it stands.
  function hostsOf(e, knobs, months, seconds) {
    let hosts = 0;
    for (const power of growth(e, months).powers) hosts += replicas(e, knobs.requests, knobs.requests * power, seconds);
    return hosts;
  }

  const cost = (c, i, knobs) => total(c.candidates[i], c.economics, knobs);

  function drawnCost(c, i, d, knobs) {
    const own = c.candidates[i], [fixed, machine, tokens] = own.request;
    const request = [fixed, machine * c.seconds[i][d], tokens * c.tokens[i][d]];
    return total(own, c.economics, knobs, knobs.months, request, own.seconds * c.seconds[i][d]);
  }

  const benefit = (c, i, knobs) => worthOf(knobs) * c.worth_mean[i] * askedOf(c.economics, knobs) - cost(c, i, knobs);

  function drawnBenefit(c, i, d, knobs, asked = askedOf(c.economics, knobs)) {
    return worthOf(knobs) * c.worth[i][d] * asked - drawnCost(c, i, d, knobs);
  }

  // Without dedicated machines, which come in whole ones, costs are straight lines in every knob.
  const isStraight = (a, b) => a.replica === 0 && b.replica === 0;

  const costDraws = (c, i, knobs) => Float64Array.from({ length: c.n }, (_, d) => drawnCost(c, i, d, knobs));

  function benefitDraws(c, i, knobs) {
    const asked = askedOf(c.economics, knobs);
    return Float64Array.from({ length: c.n }, (_, d) => drawnBenefit(c, i, d, knobs, asked));
  }

  function month(own, e, knobs) {
    const hosts = own.replica > 0 ? hostsOf(e, knobs, 1, own.seconds) : 0;
    return at(own.monthly, knobs.machine, knobs.tokens) + knobs.requests * at(own.request, knobs.machine, knobs.tokens) +
      hosts * own.replica * knobs.machine;
  }

  function payback(own, other, e, knobs) {
    for (let months = 1; months <= knobs.months; months++)
      if (total(own, e, knobs, months) <= total(other, e, knobs, months)) return months;
    return null;
  }

  // --- the rule --------------------------------------------------------------------------------

  function choose(c, knobs) {
    if (mode(knobs) === "value") return best(c.standing, (i) => benefit(c, i, knobs));
    const fit = c.standing.filter((i) => c.notWorse[i] >= SURE);
    return fit.length ? best(fit, (i) => -cost(c, i, knobs)) : best(c.standing, (i) => c.gainMeans[i]);
  }

  function decide(c, knobs) {
    const choice = choose(c, knobs), n = c.n, valued = mode(knobs) === "value";
    const money = new Map(c.standing.map((i) => [i, valued ? benefitDraws(c, i, knobs) : costDraws(c, i, knobs)]));
    const counts = c.candidates.map(() => 0), tops = new Float64Array(n), lucky = new Float64Array(n);
    const slack = c.economics.margin * worthOf(knobs) * askedOf(c.economics, knobs);
    let right = 0;
    for (let d = 0; d < n; d++) {
      let picked, fine;
      if (valued) {
        picked = best(c.standing, (i) => money.get(i)[d]);
        tops[d] = money.get(picked)[d];
        fine = money.get(choice)[d] >= tops[d] - slack;
      } else {
        const fit = c.standing.filter((i) => c.gains[i][d] >= c.bars[d]);
        picked = fit.length ? best(fit, (i) => -money.get(i)[d]) : best(c.standing, (i) => c.gains[i][d]);
        fine = c.gains[choice][d] >= c.bars[d];
      }
      if (fine && c.above(choice, d)) right++;
      counts[picked]++;
      lucky[d] = c.gains[picked][d] - c.gainMeans[picked];
    }
    const confidence = right / n, others = c.standing.filter((i) => i !== choice);
    const of = (make) => c.candidates.map((_, i) => (c.standing.includes(i) ? make(i) : null));
    return {
      kind: confidence < SURE || c.alone ? "undecided" : choice === c.incumbent ? "stay" : "choose",
      mode: mode(knobs), choice, confidence,
      rival: others.length ? best(others, (i) => counts[i]) : null,
      best: counts.map((x) => x / n),
      regret: of((i) => (valued ? mean(tops.map((x, d) => x - money.get(i)[d])) : null)),
      mean: of((i) => (valued ? benefit(c, i, knobs) : cost(c, i, knobs))),
      optimism: mean(lucky),
      worth_of_testing: valued ? mean(tops) - Math.max(...c.standing.map((i) => mean(money.get(i)))) : null,
    };
  }

  // --- what would overturn it ------------------------------------------------------------------

  // Halves [near, far] on a log scale until it is a point; `moved` tells whether a value is on the far side.
  function halved(near, far, moved) {
    for (let k = 0; k < HALVINGS; k++) {
      const middle = Math.sqrt(near * far);
      if (moved(middle)) far = middle; else near = middle;
    }
    return [near, far];
  }

  function crossing(chosen, start, sign, choice) {
    let near = start;
    for (let step = 1; step <= REACH; step++) {
      const far = start * 10 ** ((sign * step) / 10);
      if (chosen(far) !== choice) {
        const [, edge] = halved(near, far, (x) => chosen(x) !== choice);
        return [edge, chosen(edge)];
      }
      near = far;
    }
    return null;
  }

  function thresholds(c, choice, knobs) {
    const found = [];
    for (const knob of KNOBS) {
      if (!knobs[knob]) continue;
      for (const [side, sign] of [["above", 1], ["below", -1]]) {
        const crossed = crossing((x) => choose(c, turned(knobs, knob, x)), knobs[knob], sign, choice);
        if (crossed) found.push({ knob, side, at: crossed[0], to: crossed[1], ...crossingDraws(c, knobs, knob, side, choice, crossed[1], crossed[0]) });
      }
    }
    return found;
  }

  function crossingDraws(c, knobs, knob, side, choice, to, near) {
    const here = { ...knobs };
    const lead = (d, x) => {
      here[knob] = x;
      if (mode(here) === "value") return drawnBenefit(c, to, d, here) - drawnBenefit(c, choice, d, here);
      return drawnCost(c, choice, d, here) - drawnCost(c, to, d, here);
    };
    const low = near / 1000, high = near * 1000, straight = isStraight(c.candidates[choice], c.candidates[to]);
    const places = new Float64Array(c.n), above = side === "above";
    let crosses = 0;
    for (let d = 0; d < c.n; d++) {
      const first = lead(d, low), last = lead(d, high), [leads, lost] = above ? [last > 0, first > 0] : [first > 0, last > 0];
      if (!leads || lost) {
        places[d] = leads === above ? 0 : Infinity;
        continue;
      }
      crosses++;
      if (straight) places[d] = low + ((high - low) * first) / (first - last);
      else places[d] = halved(low, high, (x) => lead(d, x) > 0 !== first > 0)[1];
    }
    places.sort();
    const edge = (x) => (x > 0 && x < Infinity ? x : null);
    const bottom = places[Math.floor((c.n - 1) * 0.025)], top = places[Math.ceil((c.n - 1) * 0.975)];
    return { low: edge(bottom), high: edge(top), never: 1 - crosses / c.n };
  }

  function worthThatOverturns(c, choice, knobs) {
    const overturned = (value) => {
      const picked = choose(c, turned(knobs, "value", value));
      return picked !== choice && c.worth_mean[picked] > c.worth_mean[choice];
    };
    let near = WORTHS[0];
    for (const far of WORTHS) {
      if (overturned(far)) {
        const [last, edge] = halved(near, far, overturned), valued = turned(knobs, "value", edge), to = choose(c, valued);
        const below = choose(c, turned(knobs, "value", last)), before = below === to ? choice : below;
        return { knob: "value", side: "above", at: edge, to, ...crossingDraws(c, valued, "value", "above", before, to, edge) };
      }
      near = far;
    }
    return null;
  }

  // (worths x strategies) probability of being best; costs do not depend on the worth.
  function bestByWorth(c, worths, knobs) {
    const asked = askedOf(c.economics, knobs), costs = c.standing.map((i) => costDraws(c, i, knobs));
    return worths.map((value) => {
      const counts = c.candidates.map(() => 0), tops = new Float64Array(c.n).fill(-Infinity), picked = new Uint16Array(c.n);
      c.standing.forEach((i, k) => {
        const right = c.worth[i], cost = costs[k];
        for (let d = 0; d < c.n; d++) {
          const benefit = value * right[d] * asked - cost[d];
          if (benefit > tops[d]) { tops[d] = benefit; picked[d] = i; }
        }
      });
      for (const i of picked) counts[i]++;
      return counts.map((x) => x / c.n);
    });
  }

  // --- break-even volumes ----------------------------------------------------------------------

  // Half-open intervals of volumes on which b is cheaper than a; 0 and Infinity where they are open.
  function cheaper(b, a, e, knobs) {
    const here = { ...knobs };
    const saved = (x) => {
      here.requests = x;
      return total(a, e, here) - total(b, e, here);
    };
    const last = GRID.length - 1;
    if (isStraight(a, b)) {
      const [few, many] = [saved(GRID[0]) > 0, saved(GRID[last]) > 0];
      if (few === many) return few ? [[0, Infinity]] : [];
      const edge = halved(GRID[0], GRID[last], (x) => saved(x) > 0 !== few)[1];
      return few ? [[0, edge]] : [[edge, Infinity]];
    }
    const positive = GRID.map((x) => saved(x) > 0), found = [];
    let start = positive[0] ? 0 : null;
    for (let k = 1; k < GRID.length; k++) {
      if (positive[k] === positive[k - 1]) continue;
      const edge = halved(GRID[k - 1], GRID[k], (x) => saved(x) > 0 !== positive[k - 1])[1];
      if (start === null) start = edge;
      else { found.push([start, edge]); start = null; }
    }
    if (start !== null) found.push([start, Infinity]);
    return found;
  }

  return {
    SURE, WORTHS, open, mode, turned, isTuned, share, mean, best, retrainings, hostsOf, total, askedOf, cost,
    benefit, benefitDraws, month, payback, choose, decide, thresholds, crossingDraws, worthThatOverturns, bestByWorth,
    cheaper, halved,
  };
})();
window.breakeven = breakeven;
