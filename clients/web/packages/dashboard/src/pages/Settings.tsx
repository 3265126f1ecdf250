import { useState } from "react";
import { saveSession, session } from "../data/session.ts";
import { Title } from "../ui/parts.tsx";
import { applyTheme, type Theme, theme } from "../ui/theme.ts";

export default function Settings() {
  const [values, setValues] = useState(session);
  const [chosen, setChosen] = useState(theme);
  const save = (event: React.FormEvent) => {
    event.preventDefault();
    saveSession(values);
    // Nothing that another token has brought may stay.
    location.reload();
  };
  const choose = (next: Theme) => {
    applyTheme(next);
    setChosen(next);
  };
  return (
    <div className="page" style={{ maxWidth: 680 }}>
      <Title>Settings</Title>
      <form className="card" onSubmit={save}>
        <h2>Access</h2>
        <div className="card-body stack">
          <div className="field">
            <label htmlFor="token">Token</label>
            <input
              id="token"
              className="input mono"
              type="password"
              autoComplete="off"
              value={values.token}
              onChange={(event) => setValues({ ...values, token: event.target.value.trim() })}
            />
            <span className="hint">
              Needed where the API runs with TAILRACE_AUTH=jwt. It stays in this tab and is
              forgotten when the tab is closed.
            </span>
          </div>
          <div className="field">
            <label htmlFor="organization">Organization</label>
            <input
              id="organization"
              className="input"
              value={values.organization}
              pattern="[A-Za-z0-9_-]{0,64}"
              onChange={(event) =>
                setValues({ ...values, organization: event.target.value.trim() })
              }
            />
            <span className="hint">
              Needed where a token holds more than one. Without authentication: default.
            </span>
          </div>
          <div>
            <button type="submit" className="btn primary">
              Save
            </button>
          </div>
        </div>
      </form>
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
        <div className="card-body row">
          <a href="docs">Description</a>
          <a href="openapi.json">OpenAPI</a>
        </div>
      </section>
    </div>
  );
}
