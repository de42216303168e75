// The editor of a study: CodeMirror over the form's text field, checked and completed by the service as one types.
// Where it does not load, the text field stays and the button checks.
const field = document.getElementById("text"), plan = document.getElementById("plan");

const post = async (address, fields) => {
  const answer = await fetch(address, {method: "POST", body: new URLSearchParams(fields), headers: {Accept: "application/json"}});
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
};

const start = async () => {
  const cm = await import(field.dataset.codemirror);
  const {EditorState, EditorView, keymap} = cm;
  let timer = 0, asked = 0;

  const show = (view, found) => {
    plan.innerHTML = found.html;
    const lines = view.state.doc.lines;
    const marks = found.problems.map((each) => {
      const line = view.state.doc.line(Math.min(each.line, lines)), text = line.text;
      const from = line.from + (text.length - text.trimStart().length);
      return {from: Math.min(from, line.to), to: line.to, severity: "error", message: each.field ? `${each.field}: ${each.message}` : each.message};
    });
    view.dispatch(cm.setDiagnostics(view.state, marks));
    plan.dataset.checked = asked;
  };

  const check = (view) => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++asked;
      try {
        const found = await post("/submit/check", {text: field.value});
        if (mine === asked) show(view, found);
      } catch { /* the service is away; the next key asks again */ }
    }, 300);
  };

  const complete = async (context) => {
    const word = context.matchBefore(/[\w./+-]*/), line = context.state.doc.lineAt(context.pos);
    if (!context.explicit && (!word || word.from === word.to)) return null;
    const found = await post("/submit/complete", {text: context.state.doc.toString(), line: line.number - 1, column: context.pos - line.from}).catch(() => null);
    if (!found?.options.length) return null;
    return {
      from: line.from + found.start,
      options: found.options.map((each) => ({label: each.text, detail: each.about, type: each.kind === "field" ? "property" : "constant", apply: each.kind === "field" ? `${each.text}: ` : each.text})),
      validFor: /^[\w./+-]*$/,
    };
  };

  const look = EditorView.theme({
    "&": {border: "1px solid var(--rule)", borderRadius: "4px", fontSize: "13px", backgroundColor: "var(--back)", color: "var(--ink)", minHeight: "24rem"},
    "&.cm-focused": {outline: "2px solid var(--accent)", outlineOffset: "1px"},
    ".cm-scroller": {fontFamily: 'ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace', lineHeight: "1.5", minHeight: "24rem"},
    ".cm-content, .cm-gutter": {minHeight: "24rem"},
    ".cm-gutters": {backgroundColor: "var(--band)", color: "var(--faint)", borderRight: "1px solid var(--rule)"},
    ".cm-activeLine": {backgroundColor: "transparent"},
    ".cm-cursor": {borderLeftColor: "var(--ink)"},
    "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": {backgroundColor: "var(--run-back) !important"},
    ".cm-tooltip": {backgroundColor: "var(--back)", color: "var(--ink)", border: "1px solid var(--rule)"},
    ".cm-tooltip-autocomplete ul li[aria-selected]": {backgroundColor: "var(--accent)", color: "var(--on-accent)"},
    ".cm-completionDetail": {color: "inherit", opacity: 0.75, fontStyle: "normal"},
    ".cm-diagnostic-error": {borderLeftColor: "var(--bad)"},
  });
  const {tags} = cm;
  const colours = cm.HighlightStyle.define([
    {tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)"},
    {tag: [tags.string, tags.content], color: "var(--ink)"},
    {tag: [tags.number, tags.bool, tags.null], color: "var(--good)"},
    {tag: tags.comment, color: "var(--faint)"},
    {tag: [tags.punctuation, tags.separator, tags.squareBracket, tags.brace], color: "var(--faint)"},
  ]);

  // In a shadow root its styles are constructed sheets, which a strict Content-Security-Policy allows.
  const host = document.createElement("div");
  host.className = "codemirror";
  field.before(host);
  const root = host.attachShadow({mode: "open"}), parent = document.createElement("div");
  root.append(parent);
  const view = new EditorView({
    root, parent,
    state: EditorState.create({
      doc: field.value,
      extensions: [
        cm.lineNumbers(), cm.history(), cm.drawSelection(), cm.lintGutter(), cm.yaml(), cm.syntaxHighlighting(colours), cm.indentUnit.of("  "),
        EditorView.lineWrapping, EditorState.tabSize.of(2), look,
        cm.autocompletion({override: [complete], activateOnTypingDelay: 150}),
        keymap.of([...cm.completionKeymap, ...cm.lintKeymap, ...cm.historyKeymap, ...cm.defaultKeymap]),
        EditorView.contentAttributes.of({"aria-label": "Study"}),
        EditorView.updateListener.of((update) => { if (update.docChanged) { field.value = update.state.doc.toString(); check(update.view); } }),
      ],
    }),
  });
  field.hidden = true;
  document.querySelector("[data-scriptless]").hidden = true;
  plan.addEventListener("click", (event) => {
    const line = event.target.closest("[data-line]")?.dataset.line;
    if (!line) return;
    const place = view.state.doc.line(Math.min(Number(line), view.state.doc.lines));
    view.dispatch({selection: {anchor: place.to}, scrollIntoView: true});
    view.focus();
  });
  window.editor = view;
  if (field.value.trim()) check(view);
};

start();
