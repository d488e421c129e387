// Expecting a SpindleKVError: the code, and a message of the form "op: expected <what> for <param>, got <value>",
// thrown by the enqueuing form and rejected with by the promise form.
import { expect } from "vitest";
import { SpindleKVError } from "./api.ts";

export interface ExpectedError {
  readonly code?: string;
  /** Words of which one names the parameter in the message, in the spelling of either side of the API. */
  readonly param?: string | readonly string[];
}

const plain = (text: string) => text.toLowerCase().replaceAll("_", "");

function check(error: unknown, expected: ExpectedError): void {
  const { code = "ERR_SPINDLEKV_ARGUMENT", param } = expected;
  expect(error).toBeInstanceOf(SpindleKVError);
  const { message, code: actual, op } = error as SpindleKVError;
  expect(actual, message).toBe(code);
  expect(op, message).toEqual(expect.any(String));
  if (param === undefined) return;
  expect(message).toMatch(/expected .+ for .+, got .+/);
  const words = typeof param === "string" ? [param] : param;
  const isNamed = words.some((word) => plain(message).includes(plain(word)));
  expect(isNamed, `"${message}" names ${words.join(" or ")}`).toBe(true);
}

/** Both forms of the op refuse the parameters. */
export async function expectRefusal<P>(
  op: { readonly sync: (params: P) => void; readonly async: (params: P) => Promise<void> },
  params: P,
  expected: ExpectedError = {},
): Promise<void> {
  let thrown: unknown;
  try {
    op.sync(params);
  } catch (error) {
    thrown = error;
  }
  check(thrown, expected);
  let rejected: unknown;
  await op.async(params).catch((error: unknown) => {
    rejected = error;
  });
  check(rejected, expected);
}
