// What would overturn a choice, gathered: the twin of harness/flips.py, and of harness/breakdown.py for where two
// strategies differ in cost.
Object.assign(breakeven, (() => {
  const { SURE, WORTHS, mode, turned, isTuned, best } = breakeven;
  const MOST = 5, ONE_SIDED = 1.645, SMALL = 0.02, MACHINES = "dedicated machines";
  const unique = (items) => [...new Set(items)];

  function flips(c, verdict, knobs) {
    const { choice } = verdict, found = breakeven.thresholds(c, choice, knobs);
    const far = (x) => Math.floor(Math.abs(Math.log(x.at / knobs[x.knob])) * 1e9 + 0.5);
    let near = found.slice().sort((a, b) => far(a) - far(b));
    const byCost = mode(knobs) === "cost";
    if (byCost) {
      const worths = [breakeven.worthThatOverturns(c, choice, knobs), worthThatUndercuts(c, choice, knobs)];
      near = [...worths.filter((x) => x !== null), ...near];
    }
    const volumes = found.filter((x) => x.knob === "requests");
    const crossed = byCost ? volumes.map((x) => x.to) : [];
    const others = [opposite(c, verdict), c.incumbent].filter((i) => i !== null && i !== choice);
    const told = unique(others).filter((i) => c.standing.includes(i) && !crossed.includes(i));
    return { thresholds: near.slice(0, MOST), breakEvens: told.map((i) => breakEven(c, i, choice, knobs)), volumes };
  }

  function worthThatUndercuts(c, choice, knobs) {
    const chosen = (value) => breakeven.choose(c, turned(knobs, "value", value)) === choice;
    const first = WORTHS.findIndex(chosen);
    if (first <= 0) return null;
    const low = breakeven.halved(WORTHS[first - 1], WORTHS[first], chosen)[0], valued = turned(knobs, "value", low);
    const to = breakeven.choose(c, valued);
    return { knob: "value", side: "below", at: low, to, ...breakeven.crossingDraws(c, valued, "value", "below", choice, to, low) };
  }

  function breakEven(c, other, choice, knobs) {
    const a = c.candidates[choice], b = c.candidates[other], volumes = breakeven.cheaper(b, a, c.economics, knobs);
    const ends = volumes.flat().filter((x) => x > 0 && x < Infinity);
    let spread = { low: null, high: null, never: 0 };
    if (ends.length === 1) {
      const side = volumes[0][0] === 0 ? "below" : "above";
      spread = breakeven.crossingDraws(c, turned(knobs, "value", null), "requests", side, choice, other, ends[0]);
    }
    return { other, volumes, ...spread, proven: c.notWorse[other] >= SURE };
  }

  // --- with whom a choice is compared ----------------------------------------------------------

  const rank = (c, verdict, i) => (verdict.mode === "cost" || verdict.mean[i] === null ? c.gainMeans[i] : verdict.mean[i]);

  function opposite(c, verdict) {
    const tuned = isTuned(c.candidates[verdict.choice].family);
    const other = c.standing.filter((i) => isTuned(c.candidates[i].family) !== tuned);
    return other.length ? best(other, (i) => rank(c, verdict, i)) : null;
  }

  function runnerUp(c, verdict) {
    if (verdict.rival !== null && verdict.best[verdict.rival] > 0) return verdict.rival;
    const others = c.standing.filter((i) => i !== verdict.choice);
    return others.length ? best(others, (i) => rank(c, verdict, i)) : null;
  }

  function opponents(c, verdict) {
    const next = runnerUp(c, verdict), rest = [opposite(c, verdict), c.incumbent];
    const found = verdict.kind === "undecided" ? [next, ...rest] : [...rest, next];
    return unique(found).filter((i) => i !== null && i !== verdict.choice);
  }

  // --- more examples ---------------------------------------------------------------------------

  function lead(c, choice, knobs) {
    const gains = c.gains[choice];
    if (breakeven.share(c.n, (d) => c.above(choice, d)) < SURE) return gains.map((x) => x - c.floor);
    if (knobs.value === null) return gains.map((x, d) => x - c.bars[d]);
    const slack = c.economics.margin * knobs.value * breakeven.askedOf(c.economics, knobs);
    const rest = c.standing.filter((i) => i !== choice).map((i) => breakeven.benefitDraws(c, i, knobs));
    return breakeven.benefitDraws(c, choice, knobs).map((x, d) => x - Math.max(...rest.map((r) => r[d])) + slack);
  }

  function timesTheExamples(c, choice, knobs) {
    const found = lead(c, choice, knobs), mean = breakeven.mean(found);
    if (mean <= 0) return null;
    const spread = Math.sqrt(breakeven.mean(found.map((x) => (x - mean) ** 2)));
    return ((ONE_SIDED * spread) / mean) ** 2;
  }

  // --- what a cost is made of ------------------------------------------------------------------

  // Money of each line over the horizon; null: unknown. A line is [topic, when, part, value, assumed].
  function amounts(own, e, knobs, months = knobs.months) {
    const times = { "up front": 1, "each month": months, "each retraining": breakeven.retrainings(e, months),
      "each request": breakeven.askedOf(e, knobs, months), [MACHINES]: breakeven.hostsOf(e, knobs, months, own.seconds) };
    const factor = { fixed: 1, machine: knobs.machine, tokens: knobs.tokens };
    return own.lines.map(([, when, part, value]) => (value === null ? null : value * times[when] * factor[part]));
  }

  // What people's hours cost over so many months where nobody gave the hours or their rate.
  const assumed = (own, e, knobs, months) =>
    amounts(own, e, knobs, months).reduce((sum, money, k) => sum + (own.lines[k][4] ? money ?? 0 : 0), 0);

  // In which lines a costs more or less than b, the largest first.
  function changes(a, b, e, knobs) {
    const found = new Map();
    for (const [own, sign] of [[a, 1], [b, -1]]) {
      const money = amounts(own, e, knobs);
      own.lines.forEach(([what, , , , assumed], k) => {
        const before = found.get(what) ?? { what, money: 0, assumed: false };
        found.set(what, { what, money: before.money + sign * (money[k] ?? 0), assumed: before.assumed || assumed });
      });
    }
    const all = [...found.values()], total = all.reduce((sum, x) => sum + Math.abs(x.money), 0);
    return all.filter((x) => Math.abs(x.money) > SMALL * total).sort((x, y) => Math.abs(y.money) - Math.abs(x.money));
  }

  return { flips, worthThatUndercuts, breakEven, opposite, runnerUp, opponents, timesTheExamples, amounts, assumed, changes };
})());
