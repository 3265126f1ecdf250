import { Component, type ReactNode } from "react";

export interface ExecutionBoundaryProps {
  readonly children?: ReactNode;
  /** Shown after an error; the default offers to try again. */
  readonly fallback?: (error: Error, retry: () => void) => ReactNode;
}

/** Show an error of the components below, instead of an empty page. */
export class ExecutionBoundary extends Component<ExecutionBoundaryProps, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  readonly #retry = () => this.setState({ error: null });

  override render(): ReactNode {
    const { error } = this.state;
    const { children, fallback } = this.props;
    if (error === null) return children;
    if (fallback) return fallback(error, this.#retry);
    return (
      <div role="alert">
        <p>This view failed: {error.message}</p>
        <button type="button" onClick={this.#retry}>
          Try again
        </button>
      </div>
    );
  }
}
