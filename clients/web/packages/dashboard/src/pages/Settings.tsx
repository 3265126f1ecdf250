import { useState } from "react";
import { useMe } from "../data/me.tsx";
import { AccessForm } from "../ui/AccessForm.tsx";
import { Title } from "../ui/parts.tsx";
import { applyTheme, type Theme, theme } from "../ui/theme.ts";

export default function Settings() {
  const [chosen, setChosen] = useState(theme);
  const me = useMe();
  const choose = (next: Theme) => {
    applyTheme(next);
    setChosen(next);
  };
  return (
    <div className="page" style={{ maxWidth: 680 }}>
      <Title>Settings</Title>
      <AccessForm title="Access" button="Save" />
      <section className="card">
        <h2>Theme</h2>
        <div className="card-body row tight">
          {(["system", "light", "dark"] as const).map((each) => (
            <button
              key={each}
              type="button"
              className="btn"
              aria-pressed={each === chosen}
              onClick={() => choose(each)}
            >
              {each[0]?.toUpperCase()}
              {each.slice(1)}
            </button>
          ))}
        </div>
      </section>
      <section className="card">
        <h2>API</h2>
        {me ? (
          <dl className="facts">
            <dt>Version</dt>
            <dd>{me.version}</dd>
            <dt>You are</dt>
            <dd>{me.subject || "not signed in: this API asks for no token"}</dd>
            <dt>You may</dt>
            <dd>{me.scopes?.join(", ") ?? "do everything"}</dd>
          </dl>
        ) : null}
        <div className="card-body row">
          <a href="docs">Description</a>
          <a href="openapi.json">OpenAPI</a>
        </div>
      </section>
    </div>
  );
}
