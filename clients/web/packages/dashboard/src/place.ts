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
    path: path.split("/").filter(Boolean).map(decodeURIComponent),
    query: new URLSearchParams(query),
  };
}
