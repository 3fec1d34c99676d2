// A reporter beside the one that people read: a line of JSON for each test that failed, so that it can be run once more.

/** A suite that failed because a test in it did is no failure of its own. */
const OF_ANOTHER = new Set(["subtestsFailed"]);

export default async function* failures(events) {
  for await (const { type, data } of events) {
    if (type !== "test:fail" || data.todo || data.skip) continue;
    const { details, name, file } = data;
    if (details?.type === "suite" || OF_ANOTHER.has(details?.error?.failureType)) continue;
    yield `${JSON.stringify({ name, file })}\n`;
  }
}
