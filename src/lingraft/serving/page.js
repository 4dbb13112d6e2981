"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const [form, prompt, size, go, stop, state, trouble, system, anew] =
    ["ask", "prompt", "bytes", "go", "stop", "state", "trouble", "system", "anew"].map(byId);
  const sides = ["source", "adapted"];
  const chatting = () => document.body.dataset.mode === "chat";
  const why = {
    enough: () => "",
    ended: () => chatting() ? ", then it ended the turn" : ", then the text ended",
    full: () => ", then the context was full",
  };
  let running = null;
  // In a chat each model has a conversation of its own: the same questions, and its answers.
  let conversations = { source: [], adapted: [] };

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
      part(side, ".wrote").textContent = `${event.tokens} tokens, ${event.bytes} bytes${why[event.why]()}`;
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
    const messages = chatting() ? conversation(side, request) : [];
    if (chatting()) showTurns(side, messages);
    else part(side, ".prompt").textContent = request.prompt;
    const body = chatting() ? { side, bytes: request.bytes, messages } : { side, ...request };
    let [promptTokens, ended] = [0, null];
    try {
      const answer = await fetch("/write", {
        method: "POST", signal, body: JSON.stringify(body),
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

  const conversation = (side, request) => [
    ...(system.value.trim() ? [{ role: "system", content: system.value }] : []),
    ...conversations[side], { role: "user", content: request.prompt },
  ];

  const showTurns = (side, messages) => {
    part(side, ".turns").replaceChildren(...messages.map(({ role, content }) => {
      const turn = document.createElement("p");
      [turn.className, turn.dir, turn.textContent] = [`turn ${role}`, "auto", content];
      turn.title = role;
      return turn;
    }));
  };

  const keep = (request) => {
    for (const side of sides) {
      conversations[side].push({ role: "user", content: request.prompt },
        { role: "assistant", content: part(side, ".written").textContent });
    }
    [prompt.value, anew.disabled] = ["", false];
  };

  const forget = () => {
    conversations = { source: [], adapted: [] };
    sides.forEach(clear);
    for (const turns of document.querySelectorAll(".turns")) turns.replaceChildren();
    [state.textContent, trouble.textContent] = ["", ""];
    if (anew) anew.disabled = true;
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
      if (chatting()) keep(request);
    } catch (error) {
      const stopped = error.name === "AbortError";
      state.textContent = !stopped ? "" : chatting() ? "Stopped. This message is not part of the conversation." : "Stopped.";
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
  anew?.addEventListener("click", () => { running?.abort(); forget(); prompt.focus(); });
  for (const choice of document.querySelectorAll("[name=mode]")) {
    choice.addEventListener("change", () => {
      running?.abort();
      document.body.dataset.mode = choice.value;
      forget();
    });
  }
  for (const example of document.querySelectorAll(".example")) {
    example.addEventListener("click", () => { prompt.value = example.textContent; prompt.focus(); });
  }
})();
