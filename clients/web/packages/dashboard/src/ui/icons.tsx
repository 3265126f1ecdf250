import type { ReactNode } from "react";

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.6"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

const draw =
  (...paths: string[]) =>
  () => (
    <Icon>
      {paths.map((d) => (
        <path key={d} d={d} />
      ))}
    </Icon>
  );

export const Overview = draw("M2 2.5h5v6H2zM9.5 2.5H14v3H9.5zM9.5 8.5H14v5H9.5zM2 11h5v2.5H2z");
export const Flow = draw("M2 2.5h4v3H2zM10 6.5h4v3h-4zM2 10.5h4v3H2z", "M6 4h2.5v4H10M6 12h2.5V8");
export const Play = draw("M4.5 2.8 12.5 8l-8 5.2z");
export const InboxIcon = draw("M2 9.5 4 3h8l2 6.5V13H2z", "M2 9.5h3.5l1 1.5h3l1-1.5H14");
export const Pipe = draw("M2 4h12M2 8h12M2 12h12", "M5 2.8v2.4M10 6.8v2.4M7 10.8v2.4");
export const FeedIcon = draw("M2 8h2.5l1.8-5 3 10L11.200 8H14");
export const Chart = draw("M2 13.500h12", "M4 11V8M7 11V4M10 11V6.500M13 11V9");
export const Clock = draw("M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2", "M8 4.800V8l2.200 1.500");
export const Dead = draw("M8 2 14.500 13.500h-13z", "M8 6.500v3M8 11.500v.010");
export const Plug = draw("M6 2v3M10 2v3M4.500 5h7v2.500a3.500 3.500 0 0 1-7 0z", "M8 11v3");
export const Gear = draw(
  "M8 5.800a2.200 2.200 0 1 0 0 4.400 2.200 2.200 0 0 0 0-4.400",
  "M8 1.800v1.800M8 12.400v1.800M1.800 8h1.800M12.400 8h1.800M3.600 3.600l1.300 1.300M11.100 11.100l1.300 1.300M3.600 12.400l1.300-1.300M11.100 4.900l1.300-1.300",
);
export const Search = draw(
  "M7 2.500a4.500 4.500 0 1 0 0 9 4.500 4.500 0 0 0 0-9",
  "m10.500 10.500 3 3",
);
export const Sun = draw(
  "M8 5.200a2.800 2.800 0 1 0 0 5.600 2.800 2.800 0 0 0 0-5.600",
  "M8 1.500v1M8 13.500v1M1.500 8h1M13.500 8h1M3.400 3.400l.7.7M11.900 11.900l.7.7M3.400 12.600l.7-.7M11.900 4.100l.7-.7",
);
export const Moon = draw("M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7");
export const Copy = draw("M5.500 5.500h8v8h-8z", "M10.500 5.500v-3h-8v8h3");
export const Close = draw("m3.500 3.500 9 9M12.500 3.500l-9 9");
export const Minus = draw("M3 8h10");
export const Plus = draw("M8 3v10M3 8h10");
export const Back = draw("M9.500 3.500 5 8l4.500 4.500");
export const Next = draw("M6.500 3.500 11 8l-4.500 4.500");
export const Again = draw("M13 8a5 5 0 1 1-1.600-3.700", "M13.300 2v3h-3");
export const Stop = draw("M4 4h8v8H4z");
export const Pause = draw("M5.500 3.500v9M10.500 3.500v9");
export const Fit = draw("M2.500 6V2.500H6M10 2.500h3.500V6M13.500 10v3.500H10M6 13.500H2.500V10");
export const Compare = draw("M6 2.500H2.500v11H6M10 2.500h3.500v11H10M8 1.500v13");
export const Save = draw("M8 2.500v7M5 6.800l3 3 3-3M2.500 13.500h11");
export const Cut = draw(
  "M4.500 9.700a1.900 1.900 0 1 0 0 3.800 1.900 1.900 0 0 0 0-3.800M11.500 9.700a1.900 1.900 0 1 0 0 3.800 1.900 1.900 0 0 0 0-3.800",
  "M5.600 10 11.500 2.500M10.400 10 4.500 2.500",
);
export const Bin = draw("M3 4.500h10M6.500 4.500v-2h3v2M4.500 4.500l.5 9h6l.5-9");
export const Link2 = draw(
  "M6.500 9.500l3-3M7 4.500l1.500-1.500a3 3 0 0 1 4.300 4.300L11.300 8.800M9 11.500 7.500 13a3 3 0 0 1-4.300-4.300L4.700 7.200",
);

export function Wave() {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="var(--accent)" />
      <path
        d="M5 12c4 0 4 4 8 4s4-4 8-4 4 4 7 4M5 19c4 0 4 4 8 4s4-4 8-4 4 4 7 4"
        fill="none"
        stroke="var(--on-accent)"
        strokeWidth="2.6"
        strokeLinecap="round"
      />
    </svg>
  );
}
