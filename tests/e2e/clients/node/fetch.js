// Reads a stream with Node's own fetch; prints when the first event is there, and how it ends.

const response = await fetch(process.argv[2]);
try {
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    if (text.includes("data: ")) console.log("connected");
  }
  console.log("end");
} catch (error) {
  console.log(`error: ${error.message}`);
}
