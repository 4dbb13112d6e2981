"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const [form, prompt, size, go, stop, state, trouble] =
    ["ask", "prompt", "bytes", "go", "stop", "state", "trouble"].map(byId);
  const sides = ["source", "adapted"];
  const why = { enough: "", ended: ", then the text ended", full: ", then the context was full" };
  let running = null;

  const part = (side, name) => byId(side).querySelector(name);
  const rounded = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3 });
  const speed = (tokens, bytes) => tokens === null ? "too short to time"
    : `${rounded(tokens)} tokens/s` + (bytes === null ? "" : `, ${rounded(bytes)} bytes/s`);

  // Generated text enters the page as text, never as markup: a model can write <script>.
  const box = (piece, place) => {
    const item = document.createElement("li");
    item.textContent = piece.shown;
    item.className = `c${place % 5}` + (piece.is_bytes ? " hex" : "") + (piece.is_added ? " new" : "");
    item.title = `id ${piece.id}` + (piece.is_added ? ", added" : "");
    return item;
  };

  const clear = (side) => {
    for (const name of [".prompt", ".written", ".of-prompt", ".of-written"]) part(side, name).textContent = "";
    for (const name of [".decode", ".prefill", ".read", ".wrote"]) part(side, name).textContent = "–";
  };

  const direct = (side, direction) => {
    for (const name of [".whole", ".of-prompt", ".of-written"]) part(side, name).dir = direction;
  };

  const show = {
    prompt(side, event) {
      direct(side, event.direction);
      part(side, ".of-prompt").replaceChildren(...event.pieces.map(box));
      const cut = event.left_out ? `; the first ${event.left_out} do not fit the context and are left out` : "";
      part(side, ".read").textContent = `${event.pieces.length} tokens, ${event.bytes} bytes${cut}`;
    },
    token(side, event) {
      const list = part(side, ".of-written");
      list.append(box(event.piece, list.children.length));
      part(side, ".written").append(event.text);
    },
    end(side, event) {
      part(side, ".written").append(event.text);
      direct(side, event.direction);
      const { decode_tokens, decode_bytes, prefill_tokens, prefill_bytes } = event.speeds;
      part(side, ".decode").textContent = speed(decode_tokens, decode_bytes);
      part(side, ".prefill").textContent = speed(prefill_tokens, prefill_bytes);
      part(side, ".wrote").textContent = `${event.tokens} tokens, ${event.bytes} bytes${why[event.why]}`;
    },
  };

  const lines = async function* (stream) {
    const decoder = new TextDecoder();
    const reader = stream.getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const found = rest.split("\n");
      rest = found.pop();
      yield* found;
    }
  };

  const write = async (side, request, signal) => {
    byId(side).setAttribute("aria-busy", "true");
    part(side, ".prompt").textContent = request.prompt;
    let [promptTokens, ended] = [0, null];
    try {
      const answer = await fetch("/write", {
        method: "POST", signal, body: JSON.stringify({ side, ...request }),
        headers: { "Content-Type": "application/json", "X-Lingraft-Token": document.body.dataset.token },
      });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      for await (const line of lines(answer.body)) {
        const event = JSON.parse(line);
        show[event.kind](side, event);
        if (event.kind === "prompt") promptTokens = event.pieces.length;
        if (event.kind === "end") ended = { promptTokens, ...event };
      }
      if (ended === null) throw new Error("the server stopped before the end; see the error in its terminal");
    } finally {
      byId(side).setAttribute("aria-busy", "false");
    }
    return ended;
  };

  const compared = (source, adapted) =>
    `Done. The prompt has ${source.promptTokens} tokens in the source model and ${adapted.promptTokens} in the adapted model. `
    + `They generated ${source.tokens} and ${adapted.tokens} tokens, ${source.bytes} and ${adapted.bytes} bytes.`;

  const ask = async () => {
    if (running || !form.reportValidity()) return;
    running = new AbortController();
    const request = { prompt: prompt.value, bytes: size.valueAsNumber };
    [go.disabled, stop.disabled, trouble.textContent] = [true, false, ""];
    sides.forEach(clear);
    try {
      const ends = [];
      for (const side of sides) {
        state.textContent = `The ${side} model is generating …`;
        ends.push(await write(side, request, running.signal));
      }
      state.textContent = compared(...ends);
    } catch (error) {
      const stopped = error.name === "AbortError";
      state.textContent = stopped ? "Stopped." : "";
      const lost = error instanceof TypeError ? "the server does not respond; check that lingraft serve is still running" : error.message;
      trouble.textContent = stopped ? "" : `Error: ${lost}`;
    } finally {
      [running, go.disabled, stop.disabled] = [null, false, true];
    }
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  stop.addEventListener("click", () => running?.abort());
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
    if (event.key === "Escape") running?.abort();
  });
  for (const example of document.querySelectorAll(".example")) {
    example.addEventListener("click", () => { prompt.value = example.textContent; prompt.focus(); });
  }
})();
