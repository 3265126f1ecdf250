/** Where the page is: the fragment of the URL, so that one path of the server is enough. */
export interface Place {
  path: string[];
  query: URLSearchParams;
}

export function fragment(): string {
  return location.hash.replace(/^#/, "") || "/";
}

export function parse(text: string): Place {
  const [path = "", query = ""] = text.split("?", 2);
  return {
    path: path.split("/").filter(Boolean).map(decoded),
    query: new URLSearchParams(query),
  };
}

/** Decode a part of a path; one that is not encoded correctly, as it is. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
