// Argument rules as data: each rule breaks one thing in parameters that are otherwise valid, and names the parameter
// that the error must name. Rules that hold for every tensor of an op are made from the list of its tensors.
import { describe, it } from "vitest";
import { type Device, openDevice, ops, Tensor } from "./api.ts";
import { backends } from "./backends.ts";
import { type ExpectedError, expectRefusal } from "./expect-error.ts";
import { Prng } from "./prng.ts";
import { Arena } from "./tensors.ts";

/** A change of valid parameters: members by path ("items.0.k") and what they become. */
export interface Rule extends ExpectedError {
  readonly breaks: string;
  readonly change: (
    arena: Arena,
    valid: Readonly<Record<string, unknown>>,
  ) => Record<string, unknown>;
}

export interface Subject {
  readonly op: keyof typeof ops;
  readonly valid: (arena: Arena) => object;
  /** Paths of the tensors the op needs. */
  readonly required: readonly string[];
  /** Paths of tensors that `valid` gives but that may be left out. */
  readonly optional?: readonly string[];
  readonly rules: readonly Rule[];
}

/** A copy of plain objects and arrays with one member replaced; tensors are shared. */
export function withMember(value: unknown, path: readonly string[], member: unknown): unknown {
  if (path.length === 0) return member;
  const [name, ...rest] = path;
  if (Array.isArray(value)) {
    return value.map((item, i) => (String(i) === name ? withMember(item, rest, member) : item));
  }
  const object = value as Record<string, unknown>;
  return { ...object, [name]: withMember(object[name], rest, member) };
}

function memberOf(value: unknown, path: string): unknown {
  return path.split(".").reduce((at, name) => (at as Record<string, unknown>)[name], value);
}

// items.0.k is called items[0].k in messages.
const spoken = (path: string) => path.replaceAll(/\.(\d+)/g, "[$1]");

const cpu = backends.find(({ name }) => name === "cpu")!.device!;
const otherCpu: Device = await openDevice("cpu", { threads: 1 });

function tensorRules(path: string, isRequired: boolean): Rule[] {
  const param = spoken(path);
  const rule = (breaks: string, change: Rule["change"], code?: string): Rule => ({
    breaks: `${param}: ${breaks}`,
    param,
    change,
    ...(code && { code }),
  });
  const tensorAt = (valid: unknown) => memberOf(valid, path) as Tensor;
  const rules = [
    rule("something that is no tensor", () => ({ [path]: { shape: [1] } })),
    rule("a dtype that no op takes", (arena, valid) => {
      const { shape } = tensorAt(valid);
      return { [path]: arena.input("u8", shape, new Uint8Array(shape.reduce((a, b) => a * b, 1))) };
    }),
    rule("one axis too many", (_, valid) => {
      const tensor = tensorAt(valid);
      return { [path]: tensor.view({ shape: [1, ...tensor.shape] }) };
    }),
    rule(
      "a disposed tensor",
      (_, valid) => {
        const view = tensorAt(valid).view({});
        view.dispose();
        return { [path]: view };
      },
      "ERR_SPINDLEKV_DISPOSED",
    ),
  ];
  const missing = rule("left out", () => ({ [path]: undefined }));
  return isRequired ? [missing, ...rules] : rules;
}

// The first tensor that is read sets the device of the call, so the last one is the odd one.
function deviceRule(path: string): Rule {
  return {
    breaks: `${spoken(path)}: a tensor of another device`,
    code: "ERR_SPINDLEKV_WRONG_DEVICE",
    change: (_, valid) => {
      const { dtype, shape } = memberOf(valid, path) as Tensor;
      return { [path]: Tensor.zeros(otherCpu, dtype, shape) };
    },
  };
}

/** One test per rule, on the CPU backend: the rules are checked before a backend is reached. */
export function describeRules(subject: Subject): void {
  const { op, valid, required, optional = [], rules } = subject;
  const isolated = async (run: (arena: Arena) => Promise<void>) => {
    const arena = new Arena(cpu, new Prng(1));
    try {
      await run(arena);
      await arena.check();
    } finally {
      arena.dispose();
    }
  };
  describe(`${op} names what is wrong with its arguments`, () => {
    it("takes the valid parameters that the rules start from", async () => {
      await isolated(async (arena) => {
        ops[op].sync(valid(arena) as never);
        await ops[op].async(valid(arena) as never);
      });
    });
    it("parameters that are no object", async () => {
      for (const params of [undefined, null, 7, "text"]) {
        await expectRefusal(ops[op], params, { op, param: "params" });
      }
    });
    const all: Rule[] = [
      ...required.flatMap((path) => tensorRules(path, true)),
      ...optional.flatMap((path) => tensorRules(path, false)),
      ...[...required, ...optional].map(deviceRule),
      ...rules,
    ];
    for (const rule of all) {
      it(rule.breaks, async () => {
        await isolated(async (arena) => {
          const good = valid(arena) as Record<string, unknown>;
          let bad: unknown = good;
          for (const [path, member] of Object.entries(rule.change(arena, good))) {
            bad = withMember(bad, path.split("."), member);
          }
          await expectRefusal(ops[op], bad, { ...rule, op });
        });
      });
    }
  });
}
