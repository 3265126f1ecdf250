// What both clients print: each event as a line of JSON, and one line when they have stopped.

export const url = process.argv[2];
export const types = process.argv.slice(3);

export function received(id, type, data) {
  console.log(JSON.stringify({ id, type, data }));
}

export function stopped() {
  console.log(JSON.stringify({ stopped: true }));
}
