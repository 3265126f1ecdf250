import { useEffect, useRef, useState } from "react";
import { go, href } from "./router.tsx";
import * as icons from "./ui/icons.tsx";
import { isTyping } from "./ui/typing.ts";

const EXECUTION = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+$/i;

/** Search: the id of a run opens it, anything else filters the list of runs. */
export function Finder() {
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState("");
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.key !== "/" || isTyping(event)) return;
      event.preventDefault();
      input.current?.focus();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  const find = () => {
    const wanted = text.trim();
    if (!wanted) return;
    go(
      EXECUTION.test(wanted) && wanted.length > 30
        ? href("runs", wanted)
        : `#/runs?q=${encodeURIComponent(wanted)}`,
    );
    setText("");
    input.current?.blur();
  };
  return (
    <search>
      <form
        className="find"
        onSubmit={(event) => {
          event.preventDefault();
          find();
        }}
      >
        <icons.Search />
        <input
          ref={input}
          type="text"
          placeholder="Search runs, ids"
          aria-label="Search runs"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <kbd>/</kbd>
      </form>
    </search>
  );
}
