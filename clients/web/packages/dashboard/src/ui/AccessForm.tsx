import { type FormEvent, useState } from "react";
import { forgetInputs } from "../data/inputs.ts";
import { saveSession, session } from "../data/session.ts";
import { forgetRuns } from "../run/recalled.ts";

/** Ask for the token and the organization of this tab. */
export function AccessForm({ title, button }: { title: string; button: string }) {
  const [values, setValues] = useState(session);
  const save = async (event: FormEvent) => {
    event.preventDefault();
    saveSession(values);
    // Nothing that another token has brought may stay.
    forgetInputs();
    await forgetRuns();
    location.reload();
  };
  return (
    <form className="card" onSubmit={save}>
      <h2>{title}</h2>
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
            Needed where the API runs with TAILRACE_AUTH=jwt. It stays in this tab and is forgotten
            when the tab is closed.
          </span>
        </div>
        <div className="field">
          <label htmlFor="organization">Organization</label>
          <input
            id="organization"
            className="input"
            value={values.organization}
            pattern="[A-Za-z0-9_\-]{0,64}"
            onChange={(event) => setValues({ ...values, organization: event.target.value.trim() })}
          />
          <span className="hint">
            Needed where a token holds more than one. Without authentication: default.
          </span>
        </div>
        <div>
          <button type="submit" className="btn primary">
            {button}
          </button>
        </div>
      </div>
    </form>
  );
}

/** What the API shows without a token. */
export function SignIn() {
  return (
    <div className="page sign-in">
      <h1>Sign in to Tailrace</h1>
      <p className="muted">
        This API wants a token, and the present one is missing, expired, or of another issuer. Paste
        one from its operator; <a href="docs">its description</a> is open.
      </p>
      <AccessForm title="Access" button="Sign in" />
    </div>
  );
}
