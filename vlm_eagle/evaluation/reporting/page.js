"use strict";
// Samples are built when they are shown, from the JSON block of this page, and only ever as text nodes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const STEP = 24; // samples shown at a time
  const byId = (id) => document.getElementById(id);
  const [setting, benchmark, order, search] = ["setting", "benchmark", "order", "search"].map(byId);
  const [list, count, more] = ["list", "count", "more"].map(byId);
  let chosen = [];
  let shown = 0;

  function element(name, kind, text) {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function option(select, value, text) {
    const made = element("option", "", text);
    made.value = value;
    select.append(made);
  }

  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

  // A sample's result under the chosen setting, if it was measured there.
  function resultOf(sample) {
    const row = sample.r.find((r) => r[0] === Number(setting.value));
    if (!row) return null;
    const [, answer, committed, accepted, length] = row;
    const tokens = sum(committed);
    return { pieces: sample.a[answer], committed, accepted, length, tokens, drafted: sum(accepted),
             tau: committed.length ? tokens / committed.length : null };
  }

  function choose() {
    const wanted = search.value.trim().toLowerCase();
    chosen = data.samples
      .filter((s) => benchmark.value === "" || s.b === data.benchmarks[benchmark.value])
      .map((sample) => ({ sample, result: resultOf(sample) }))
      .filter(({ result }) => result)
      .filter(({ sample, result }) =>
        !wanted || `${sample.id} ${sample.q} ${result.pieces.join("")}`.toLowerCase().includes(wanted));
    const tau = ({ result }) => result.tau;
    const orders = {
      low: (a, b) => (tau(a) ?? Infinity) - (tau(b) ?? Infinity),
      high: (a, b) => (tau(b) ?? -Infinity) - (tau(a) ?? -Infinity),
      long: (a, b) => b.result.length - a.result.length,
    };
    if (orders[order.value]) chosen.sort(orders[order.value]);
    list.replaceChildren();
    shown = 0;
    show();
  }

  function show() {
    const next = chosen.slice(shown, shown + STEP);
    list.append(...next.map(({ sample, result }) => card(sample, result)));
    const first = list.children[shown];
    shown += next.length;
    count.textContent = chosen.length ? `${shown} of ${plural(chosen.length, "sample")} shown` : "No sample fits.";
    more.hidden = shown >= chosen.length;
    return first;
  }

  function card(sample, result) {
    const box = element("article", "sample");
    const turn = sample.turn ? `, turn ${sample.turn + 1}` : "";
    box.append(element("h3", "", `${sample.b} · ${sample.id}${turn}`));
    const share = result.tokens ? `${Math.round((100 * result.drafted) / result.tokens)} % from the draft` : "";
    const tau = result.tau === null ? "no verification" : `${result.tau.toFixed(2)} tokens per forward`;
    box.append(element("p", "meta",
      [tau, `${plural(result.length, "token")} in ${plural(result.committed.length, "forward")}`, share].filter(Boolean).join(" · ")));
    const body = element("div", "body");
    const pictures = sample.im.map((i) => data.pictures[i]).filter(Boolean);
    if (pictures.length || sample.no.length) {
      body.classList.add("with-pictures");
      body.append(pictureBox(sample, pictures));
    }
    const right = element("div");
    const question = element("p", "question", sample.q);
    question.dir = "auto";
    if (sample.q.length > 500) question.tabIndex = 0; // it scrolls
    right.append(question, ...answerBox(result));
    body.append(right);
    box.append(body);
    return box;
  }

  function pictureBox(sample, pictures) {
    const box = element("div", "pictures");
    pictures.forEach(([url, width, height], i) => {
      const picture = element("img", Math.max(width, height) < 160 ? "small-one" : "");
      Object.assign(picture, { src: url, width, height, decoding: "async", alt: `Image ${i + 1} of ${pictures.length} of ${sample.id}` });
      box.append(picture);
    });
    for (const reason of sample.no) box.append(element("p", "small", `Image not shown: ${reason}`));
    return box;
  }

  // The answer with every token marked by who wrote it, the rhythm of its forwards, and a line that says what is pointed at.
  function answerBox(result) {
    const { pieces, committed, accepted } = result;
    const box = element("div", "answer");
    const status = element("p", "status");
    const forwards = [[0]];
    box.dir = "auto";
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Answer, ${plural(committed.length, "verification forward")}. Left and right arrow keys step through them.`);
    status.setAttribute("aria-live", "polite");
    addToken(box, pieces[0], "f", 0);
    let at = 1;
    committed.forEach((tokens, forward) => {
      const own = [];
      for (let i = 0; i < tokens && at < pieces.length; i++, at++) {
        addToken(box, pieces[at], i < accepted[forward] ? "d" : "b", forward + 1);
        own.push(at);
      }
      if (own.length) forwards.push(own);
    });
    if (pieces.length < result.length) box.append(element("span", "small", ` … ${plural(result.length - pieces.length, "more token")}`));
    if (result.length > 400) box.classList.add("long");
    explore(box, status, forwards, result);
    return [box, rhythm(result), status];
  }

  function addToken(box, piece, kind, forward) {
    const text = piece === "" ? "" : piece.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥\t");
    const token = element("span", `tok ${kind}${/^<\|.*\|>$/.test(piece) ? " special" : ""}`, text);
    token.title = { f: "First token, from the prefill", d: "Accepted from the draft", b: "Bonus token, from the target" }[kind];
    token.dataset.forward = forward;
    box.append(token);
  }

  function describe(forward, result) {
    if (forward === 0) return "First token, from the prefill";
    const kept = result.accepted[forward - 1];
    const bonus = result.committed[forward - 1] - kept;
    return `Forward ${forward} of ${result.committed.length}: ${kept} accepted from the draft${bonus ? ", then the bonus token" : ", the answer ends with them"}`;
  }

  function explore(box, status, forwards, result) {
    let now = null;
    const point = (forward, say) => {
      if (forward === now) return;
      for (const token of box.querySelectorAll(".now")) token.classList.remove("now");
      now = forward;
      status.textContent = "";
      if (forward === null) return;
      const own = forwards[forward].map((i) => box.children[i]);
      own.forEach((token) => token.classList.add("now"));
      const words = forwards[forward].map((i) => result.pieces[i]).join("");
      status.textContent = `${describe(forward, result)}: “${words}”`;
      if (say) own[0].scrollIntoView({ block: "nearest" });
    };
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") point(null);
      else if (event.key === "Home") point(0, true);
      else if (event.key === "End") point(forwards.length - 1, true);
      else if (step) point(Math.min(Math.max((now ?? (step > 0 ? -1 : forwards.length)) + step, 0), forwards.length - 1), true);
      else return;
      event.preventDefault();
    });
    box.addEventListener("pointerover", (event) => {
      const token = event.target.closest(".tok");
      if (token) point(Number(token.dataset.forward));
    });
    box.addEventListener("pointerleave", () => point(null));
    box.addEventListener("blur", () => point(null));
  }

  // One bar per forward: accepted tokens, and the bonus on top.
  function rhythm({ committed, accepted }) {
    const unit = 4, wide = 5, most = Math.max(1, ...committed), bars = committed.slice(0, 600);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const width = bars.length * wide, height = most * unit;
    for (const [name, value] of Object.entries({ class: "rhythm", viewBox: `0 0 ${Math.max(width, 1)} ${height}`, width, height, "aria-hidden": "true" })) svg.setAttribute(name, value);
    bars.forEach((tokens, i) => {
      const bar = (kind, from, size) => {
        if (!size) return;
        const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        for (const [name, value] of Object.entries({ class: kind, x: i * wide + 0.5, y: height - (from + size) * unit, width: wide - 1, height: size * unit })) rect.setAttribute(name, value);
        svg.append(rect);
      };
      bar("d", 0, accepted[i]);
      bar("b", accepted[i], tokens - accepted[i]);
    });
    return svg;
  }

  data.benchmarks = [...new Set(data.samples.map((s) => s.b))];
  data.settings.forEach((name, i) => option(setting, i, name));
  setting.value = data.start;
  option(benchmark, "", `all ${data.benchmarks.length}`);
  data.benchmarks.forEach((name, i) => option(benchmark, i, name));
  for (const control of [setting, benchmark, order]) control.addEventListener("change", choose);
  let typing;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(choose, 150); });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const first = show();
    first?.querySelector(".answer")?.focus(); // the keyboard goes on where the new ones begin
  });
  byId("unscripted").remove();
  byId("controls").hidden = false;
  choose();
})();
