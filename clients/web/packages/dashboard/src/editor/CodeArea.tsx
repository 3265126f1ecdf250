/** A text area that highlights, completes, and shows problems at their place. */
import {
  autocompletion,
  type CompletionContext,
  type CompletionResult,
  completionKeymap,
} from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import {
  drawSelection,
  EditorView,
  highlightActiveLine,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { type Ref, useEffect, useImperativeHandle, useRef } from "react";
import type { NodeType } from "../data/types.ts";
import { optionsAt } from "./complete.ts";
import type { Fault } from "./source.ts";

export interface CodeHandle {
  reveal(from: number, to: number): void;
}

interface Props {
  initial: string;
  label: string;
  faults: readonly Fault[];
  /** The types of nodes that are completed. */
  types: readonly NodeType[];
  onChange: (text: string) => void;
  ref?: Ref<CodeHandle>;
}

const COLORS = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: tags.string, color: "var(--success)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--running)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
  {
    tag: [tags.punctuation, tags.separator, tags.squareBracket, tags.brace],
    color: "var(--muted)",
  },
]);

const LOOK = EditorView.theme({
  "&": { height: "100%", background: "var(--surface)", color: "var(--text)", fontSize: "12.5px" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { font: "12.5px / 19px var(--mono)", overflow: "auto" },
  ".cm-gutters": { background: "var(--surface)", color: "var(--muted)", border: "0" },
  ".cm-activeLine, .cm-activeLineGutter": {
    background: "color-mix(in srgb, var(--muted) 7%, transparent)",
  },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground":
    { background: "color-mix(in srgb, var(--accent) 28%, transparent)" },
  ".cm-tooltip": {
    background: "var(--raised)",
    border: "1px solid var(--line)",
    borderRadius: "8px",
  },
  ".cm-tooltip-autocomplete > ul": { borderRadius: "7px" },
  ".cm-completionInfo": { font: "13px / 19px system-ui, sans-serif", padding: "6px 10px" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": {
    background: "var(--accent)",
    color: "var(--on-accent)",
  },
  ".cm-diagnostic": { font: "13px / 19px system-ui, sans-serif", padding: "6px 10px" },
  ".cm-diagnostic-error": { borderLeft: "3px solid var(--error)" },
  ".cm-lintRange-error": {
    background: "color-mix(in srgb, var(--error) 12%, transparent)",
    textDecoration: "underline wavy var(--error)",
    textUnderlineOffset: "3px",
    backgroundImage: "none",
  },
});

/** Complete a word while it is typed, or whatever may stand here when asked. */
function complete(
  { state, pos, explicit }: CompletionContext,
  types: readonly NodeType[],
): CompletionResult | null {
  const found = optionsAt(state.doc.toString(), pos, types);
  return found && (found.from < pos || explicit) ? found : null;
}

/**
 * Replace the selection by what is typed. The browser would keep its look by inline styles, which the
 * policy refuses.
 */
function replace(event: InputEvent, view: EditorView): boolean {
  if (event.isComposing || event.data === null || view.state.selection.main.empty) return false;
  event.preventDefault();
  view.dispatch(view.state.replaceSelection(event.data), {
    userEvent: "input.type",
    scrollIntoView: true,
  });
  return true;
}

export default function CodeArea({ initial, label, faults, types, onChange, ref }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const change = useRef(onChange);
  change.current = onChange;
  const known = useRef(types);
  known.current = types;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the editor keeps its text itself
  useEffect(() => {
    if (!host.current) return;
    // Styles of a shadow root are objects: the policy forbids elements with styles.
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    const made = new EditorView({
      root,
      parent: root,
      state: EditorState.create({
        doc: initial,
        extensions: [
          lineNumbers(),
          lintGutter(),
          history(),
          drawSelection(),
          highlightActiveLine(),
          indentUnit.of("  "),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": label, tabindex: "0" }),
          yaml(),
          syntaxHighlighting(COLORS),
          autocompletion({ override: [(context) => complete(context, known.current)] }),
          keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap, ...lintKeymap]),
          LOOK,
          EditorView.domEventHandlers({ beforeinput: replace }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) change.current(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = made;
    return () => made.destroy();
  }, []);
  useEffect(() => {
    const { current: shown } = view;
    if (!shown) return;
    const end = shown.state.doc.length;
    const diagnostics = faults.map(({ from, to, message }) => ({
      from: Math.min(from, end),
      to: Math.min(Math.max(to, from + 1), end),
      severity: "error" as const,
      message,
    }));
    shown.dispatch(setDiagnostics(shown.state, diagnostics));
  }, [faults]);
  useImperativeHandle(ref, () => ({
    reveal: (from, to) => {
      view.current?.dispatch({
        selection: { anchor: from, head: to },
        effects: EditorView.scrollIntoView(from, { y: "center" }),
      });
      view.current?.focus();
    },
  }));
  return <div ref={host} className="code-area" />;
}
