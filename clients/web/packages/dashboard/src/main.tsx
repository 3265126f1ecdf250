import "./styles/tokens.css";
import "./styles/shell.css";
import "./styles/ui.css";
import "./styles/run.css";
import { TailraceProvider } from "@tailrace/react";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { client } from "./data/api.ts";
import { tailrace } from "./data/live.ts";
import { opened } from "./start.ts";

await opened;
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <TailraceProvider client={tailrace}>
          <App />
        </TailraceProvider>
      </QueryClientProvider>
    </StrictMode>,
  );
}
