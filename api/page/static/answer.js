// An answer of the chat route, put together from the chunks of its stream.

/** The state of an answer before its first chunk. */
export function emptyAnswer() {
  return { role: "assistant", reasoning: "", content: "", calls: [], usage: null, finish: null };
}

/** Add what ``chunk`` brings to ``answer``. */
export function addChunk(answer, chunk) {
  if (chunk.usage) answer.usage = chunk.usage;
  const choice = chunk.choices[0];
  if (!choice) return;
  const { reasoning_content: reasoning, content, tool_calls: calls } = choice.delta;
  answer.reasoning += reasoning ?? "";
  answer.content += content ?? "";
  for (const call of calls ?? []) {
    answer.calls[call.index] ??= { id: "", name: "", arguments: "" };
    const known = answer.calls[call.index];
    known.id ||= call.id ?? "";
    known.name += call.function?.name ?? "";
    known.arguments += call.function?.arguments ?? "";
  }
  if (choice.finish_reason) answer.finish = choice.finish_reason;
}
