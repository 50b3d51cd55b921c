// The verdict in plain sentences: the twin of harness/wording.py and of the parts of harness/formats.py it needs. A
// sentence is a list of its parts; the name of a strategy is a list of one, so that it can be set apart.
Object.assign(breakeven, (() => {
  const { SURE, isTuned } = breakeven;
  const FAR = 100, NOTICED = 0.25, MINUS = "−", DASH = "–", UNKNOWN = "unknown";

  // --- numbers ---------------------------------------------------------------------------------

  // With so many digits after the point, ties to the even digit.
  function fixed(x, digits) {
    const size = Math.abs(x), text = size.toFixed(digits);
    const [whole, rest = ""] = size.toFixed(Math.min(100, digits + 60)).split(".");
    const tie = /^50*$/.test(rest.slice(digits));
    const down = `${whole}${digits ? `.${rest.slice(0, digits)}` : ""}`;
    const even = tie && Number(down.at(-1)) % 2 === 0 ? down : text;
    return x < 0 && Number(even) !== 0 ? `-${even}` : even;
  }

  const grouped = (text) => text.replace(/^-?\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ","));
  const exponent = (x) => (x ? Number(Math.abs(x).toExponential().split("e")[1]) : 0);
  const plural = (n, one, many = `${one}s`) => `${grouped(fixed(n, 0))} ${n === 1 ? one : many}`;
  const percent = (x) => `${fixed(100 * x, 1).replace(/\.0$/, "")} %`;
  const leading = (x, digits) => fixed(x, Math.max(0, digits - 1 - exponent(x)));

  function significant(x, digits) {
    const scale = Number(`1e${Math.max(0, exponent(x) - digits + 1)}`);
    return Math.floor(x / scale + 0.5) * scale;
  }

  function times(x) {
    if (x < 1) return leading(x, 2);
    return x < 10 ? fixed(x, 1) : grouped(fixed(significant(x, 2), 0));
  }

  function volume(x) {
    if (x < 100) return x < 10 ? leading(x, 2) : fixed(x, 0);
    return grouped(fixed(significant(x, 3), 0));
  }

  const count = (x) => (x < 10 && x !== Math.trunc(x) ? fixed(x, 1) : grouped(fixed(x, 0)));

  function money(c, x) {
    if (x === null) return UNKNOWN;
    const unit = c.symbol ? "" : ` ${c.currency}`, size = Math.abs(x);
    let digits = "0";
    if (size >= 99.995) digits = grouped(fixed(size, 0));
    else if (size >= 1) digits = fixed(size, 2);
    else if (size > 0 && size < 5e-7) return `under ${c.symbol}0.000001${unit}`;
    else if (size > 0) digits = leading(size, 2);
    if (size > 0 && size < 1 && Number(digits) >= 1) digits = "1.00";
    return `${x < 0 ? MINUS : ""}${c.symbol}${digits}${unit}`;
  }

  const names = (items) => (items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`);

  // --- the answer ------------------------------------------------------------------------------

  const name = (c, i) => [c.candidates[i].label];
  const measured = (c, i) => {
    const { quality, ranges } = c.candidates[i];
    return ranges ? `${quality} (${ranges})` : quality;
  };
  const yearOne = (c, i, knobs) => breakeven.total(c.candidates[i], c.economics, knobs, 12);
  const volumeOf = (c, knobs) => `${count(knobs.requests)} requests ${c.economics.growth ? "in the first month" : "a month"}`;
  const monthsOf = (knobs) => plural(knobs.months, "month");

  function told(c, knobs) {
    const verdict = breakeven.decide(c, knobs), found = breakeven.flips(c, verdict, knobs);
    const [answer, ending] = answerOf(c, verdict, found, knobs), [start, ...rest] = action(c, verdict, knobs);
    return {
      answer, headline: answer ? [ending, start, ...rest] : [start.trimStart(), ...rest], basis: basis(c, verdict, knobs), why: why(c, verdict, knobs),
      flips: c.alone ? [] : [...overturns(c, found), ...found.breakEvens.map((x) => breakEven(c, x, verdict.choice))],
      testing: c.alone ? [] : testing(c, verdict, knobs), overview: overview(c, verdict, answer, knobs), verdict, flipped: found,
    };
  }

  function answerOf(c, verdict, found, knobs) {
    const tuned = isTuned(c.candidates[verdict.choice].family), open = verdict.kind === "undecided";
    if (!c.tuning) return open ? ["UNDECIDED", "."] : ["", ""];
    if (open) return ["UNDECIDED", c.alone ? "." : `, leaning to ${tuned ? "yes" : "no"}.`];
    const turns = found.volumes.some((x) => isTuned(c.candidates[x.to].family) !== tuned);
    if (tuned) return ["YES", turns ? `, at ${volumeOf(c, knobs)}.` : "."];
    return ["NO", turns ? `, not at ${volumeOf(c, knobs)}.` : "."];
  }

  function action(c, verdict, knobs) {
    const { choice } = verdict, who = name(c, choice), without = c.candidates[choice].family === "no-model";
    const said = `, with ${c.metric} ${measured(c, choice)}, for ${yearSaid(c, choice, knobs)}.`;
    if (c.alone) return [" Only one strategy has a result, so nothing was compared: ", who, said];
    if (verdict.kind === "undecided") {
      const needs = without ? ", which needs no language model" : "";
      return [` Ahead is ${choice === c.incumbent ? "today's " : ""}`, who, `${needs}${said}`];
    }
    if (choice === c.incumbent) return [" Stay as you are: ", who, said];
    const start = without ? " No language model is needed: " : " ";
    if (c.incumbent === null) return [`${start}${without ? "take" : "Take"} `, who, said];
    const gap = `${c.gaps[choice][c.incumbent]} ${c.metric}`;
    return [`${start}${without ? "move" : "Move"} from today's `, name(c, c.incumbent), " to ", who,
      `: ${gap}${extra(c, choice, knobs)}.`];
  }

  function yearSaid(c, i, knobs) {
    const all = yearOne(c, i, knobs), hours = breakeven.assumed(c.candidates[i], c.economics, knobs, 12);
    const [text, theirs] = [money(c, all), money(c, hours)], part = text === theirs ? "nearly all of it" : `of which ${theirs}`;
    return `${text} in year 1${hours > all / 2 ? ` (${part} people's hours, assumed)` : ""}`;
  }

  function extra(c, choice, knobs) {
    if (!c.candidates[c.incumbent].known) return ", what today costs is not known";
    const more = yearOne(c, choice, knobs) - yearOne(c, c.incumbent, knobs);
    const [ours, today] = [choice, c.incumbent].map((i) => breakeven.assumed(c.candidates[i], c.economics, knobs, 12));
    const part = (ours - today) * more > more ** 2 / 2 ? " (mostly people's hours, assumed)" : "";
    return ` for ${money(c, Math.abs(more))} ${more >= 0 ? "more" : "less"} in year 1${part}`;
  }

  function basis(c, verdict, knobs) {
    if (c.alone) return ["There is nothing to decide until a second strategy has a result."];
    const share = percent(verdict.confidence), when = `at ${volumeOf(c, knobs)} over ${monthsOf(knobs)}`;
    const short = verdict.kind === "undecided" ? `; ${percent(SURE)} would decide` : "";
    if (knobs.value !== null)
      return [`By net benefit, with ${money(c, knobs.value)} for a correct answer, ${when}: best, or within ${c.margin} ` +
        `${c.metric} of the best, in ${share} of draws${short}.`];
    const against = c.incumbent !== null ? ["today's ", name(c, c.incumbent)] : ["the best"];
    const start = "By cost, as nobody said what a correct answer is worth (value_per_correct)";
    if (c.notWorse[verdict.choice] >= SURE)
      return [`${start}: the cheapest that is no worse than `, ...against,
        ` by more than ${c.margin} ${c.metric}, ${when}. It is so in ${share} of draws${short}.`];
    return [`${start}; but none is shown to be no worse than `, ...against,
      ` by more than ${c.margin} ${c.metric}. The best so far is not worse in ${share} of draws${short}.`];
  }

  // --- why -------------------------------------------------------------------------------------

  function why(c, verdict, knobs) {
    const { choice } = verdict, who = name(c, choice), found = [], mean = verdict.mean[choice];
    if (verdict.mode === "value" && mean < 0)
      found.push(["Nothing pays for itself: the net benefit of ", who, ` is ${money(c, mean)} over ${monthsOf(knobs)}.`]);
    breakeven.opponents(c, verdict).slice(0, 2).forEach((i, rank) => {
      found.push([name(c, i), " minus ", who, `: ${c.pairs[i][choice]}.`]);
      if (rank === 0 && c.candidates[i].known) found.push([name(c, i), dearer(c, i, choice, knobs)]);
    });
    found.push(...c.hurts.slice(0, 2));
    if (c.standing.length > 1 && verdict.optimism > NOTICED * c.economics.margin)
      found.push([`Picked from ${c.standing.length} on these examples, `, who,
        ` looks about ${fixed(verdict.optimism, c.decimals)} better than it is.`]);
    return found;
  }

  function dearer(c, i, choice, knobs) {
    const more = breakeven.cost(c, i, knobs) - breakeven.cost(c, choice, knobs);
    const parts = breakeven.changes(c.candidates[i], c.candidates[choice], c.economics, knobs).slice(0, 3)
      .map((x) => `${x.what} ${x.money > 0 ? "+" : MINUS}${money(c, Math.abs(x.money))}${x.assumed ? " (assumed)" : ""}`);
    const listed = parts.length ? `: ${parts.join(", ")}` : "";
    return ` costs ${money(c, Math.abs(more))} ${more >= 0 ? "more" : "less"} over ${monthsOf(knobs)}${listed}.`;
  }

  // --- what would overturn it ------------------------------------------------------------------

  function overturns(c, found) {
    const said = found.thresholds.map((x) => flip(c, x));
    return said.length ? said : [["Neither volume nor prices within a factor of 1,000 overturn it."]];
  }

  function flip(c, x) {
    const more = x.side === "above" ? "more" : "less";
    let where = `if ${x.knob === "machine" ? "machines cost" : "tokens cost"} ${more} than ${amount(c, x, x.at)} times their price`;
    if (x.knob === "requests") where = `${x.side} ${amount(c, x, x.at)} requests a month`;
    else if (x.knob === "value") where = `if a correct answer is worth ${more} than ${amount(c, x, x.at)}`;
    else if (x.knob === "machine" && c.hour !== null) where = `if an hour of ${c.hour[0]} costs ${more} than ${amount(c, x, x.at)}`;
    return ["To ", name(c, x.to), ` ${where}${spread(c, x)}.`];
  }

  function amount(c, x, value) {
    if (x.knob === "requests") return volume(value);
    if (x.knob === "value") return money(c, value);
    return x.knob === "machine" && c.hour !== null ? money(c, value * c.hour[1]) : times(value);
  }

  function spread(c, x) {
    if (x.low !== null && x.high !== null) return ` (95 %: ${amount(c, x, x.low)} to ${amount(c, x, x.high)})`;
    const nowhere = `in ${percent(x.never)} of draws nowhere`;
    if (x.low !== null) return ` (95 %: from ${amount(c, x, x.low)} on; ${nowhere})`;
    if (x.high !== null) return ` (95 %: up to ${amount(c, x, x.high)}; ${nowhere})`;
    return x.never > 0 ? ` (${nowhere})` : "";
  }

  function breakEven(c, x, choice) {
    const other = name(c, x.other), mine = name(c, choice);
    if (!x.volumes.length) return [other, " is at no volume cheaper than ", mine, "."];
    const alone = x.proven ? ", on cost alone" : ", on cost alone: it is not shown to be no worse";
    return [other, " is cheaper than ", mine, ` ${volumesSaid(x.volumes)}${spread(c, { ...x, knob: "requests" })}${alone}.`];
  }

  function volumesSaid(intervals) {
    if (!intervals.length) return "at no volume";
    if (intervals.length === 1 && intervals[0][0] === 0 && intervals[0][1] === Infinity) return "at every volume";
    const said = intervals.map(([low, high]) => high === Infinity ? `above ${volume(low)}`
      : low === 0 ? `below ${volume(high)}` : `from ${volume(low)} to ${volume(high)}`);
    return `${names(said)} requests a month`;
  }

  // --- what testing is worth -------------------------------------------------------------------

  function testing(c, verdict, knobs) {
    const worth = verdict.worth_of_testing, found = [];
    if (worth === null) found.push(["What more testing is worth cannot be said without the value of a correct answer."]);
    else
      found.push([`More testing is worth at most ${money(c, worth)} over ${monthsOf(knobs)}; labelling ` +
        `${grouped(fixed(c.tests, 0))} more test examples costs about ${money(c, c.again)}` +
        `${c.again_assumed ? " (assumed)" : ""}${worth < c.again ? ": stop measuring" : ""}.`]);
    if (verdict.kind === "undecided") found.push(...settling(c, verdict, knobs));
    return found;
  }

  function settling(c, verdict, knobs) {
    const who = name(c, verdict.choice), many = breakeven.timesTheExamples(c, verdict.choice, knobs), found = [];
    if (many === null) found.push(["More examples alone would rather turn it against ", who, " than settle it."]);
    else if (many > FAR) found.push([`Even ${FAR} times as many test examples would hardly settle it.`]);
    else {
      const more = times(Math.max(c.tests * (many - 1), 10));
      found.push([`About ${more} more test examples would settle it, should `, who, " stay ahead by as much."]);
    }
    if (verdict.mode === "cost") found.push(["So may saying what a correct answer is worth: economics.value_per_correct."]);
    return found;
  }

  function overview(c, verdict, answer, knobs) {
    const { choice } = verdict, other = breakeven.runnerUp(c, verdict);
    return [answer, c.candidates[choice].label, measured(c, choice), other === null ? "" : c.leads[choice][other],
      other === null ? "" : c.candidates[other].label, money(c, yearOne(c, choice, knobs)), c.alone ? DASH : percent(verdict.confidence)];
  }

  return { told, money, volume, times, count, percent, plural, fixed, exponent, volumesSaid };
})());
