/** The token and the organization of this browser tab. */

const TOKEN = "tailrace.token";
const ORGANIZATION = "tailrace.organization";

/** The address of the API: the folder of the page, so that a proxy may put it under any path. */
export const BASE = new URL(".", document.baseURI).href;

export interface Session {
  token: string;
  organization: string;
}

export function session(): Session {
  return {
    token: sessionStorage.getItem(TOKEN) ?? "",
    organization: localStorage.getItem(ORGANIZATION) ?? "",
  };
}

export function saveSession(next: Session): void {
  sessionStorage.setItem(TOKEN, next.token);
  localStorage.setItem(ORGANIZATION, next.organization);
}

export function sessionHeaders(): Record<string, string> {
  const { token, organization } = session();
  return {
    ...(token ? { authorization: `Bearer ${token}` } : {}),
    ...(organization ? { "x-organization-id": organization } : {}),
  };
}
