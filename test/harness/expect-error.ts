// Expecting a SpindleKVError: its code, its op, and a message of the form "op: expected <what> for <param>, got
// <value>", thrown by the enqueuing form of an op and rejected with by the promise form.
import { expect } from "vitest";
import { SpindleKVError } from "./api.ts";

export interface ExpectedError {
  readonly code?: string;
  /** The parameter that the message must name: a member, or a path such as items[0].k, in either spelling. */
  readonly param?: string | readonly string[];
  readonly op?: string;
}

const plain = (text: string) => text.toLowerCase().replaceAll("_", "");

export function checkError(error: unknown, expected: ExpectedError): void {
  const { code = "ERR_SPINDLEKV_ARGUMENT", param, op } = expected;
  expect(error).toBeInstanceOf(SpindleKVError);
  const { message, code: actual, op: actualOp } = error as SpindleKVError;
  expect(actual, message).toBe(code);
  if (op !== undefined) expect(plain(actualOp ?? ""), message).toBe(plain(op));
  if (param === undefined) return;
  const named = plain(/expected .+ for (\S+), got .+/.exec(message)?.[1] ?? "");
  const words = (typeof param === "string" ? [param] : param).map(plain);
  const isNamed = words.some((word) => named === word || named.endsWith(`.${word}`));
  expect(isNamed, `"${message}" names ${words.join(" or ")}`).toBe(true);
}

/** Both forms of the op refuse the parameters. */
export async function expectRefusal(
  op: { readonly sync: (params: never) => void; readonly async: (params: never) => Promise<void> },
  params: unknown,
  expected: ExpectedError = {},
): Promise<void> {
  let thrown: unknown;
  try {
    op.sync(params as never);
  } catch (error) {
    thrown = error;
  }
  checkError(thrown, expected);
  let rejected: unknown;
  await op.async(params as never).catch((error: unknown) => {
    rejected = error;
  });
  checkError(rejected, expected);
}
