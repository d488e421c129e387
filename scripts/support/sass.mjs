// The encoding of machine instructions from sm_80 to sm_120, as far as counting needs it: 16 bytes each, the
// low 12 bits an opcode, of which the low 9 name the operation and the rest the form of its operands.

export const kInstructionBytes = 16;

/** Opcodes (12 bits) that the reports name. */
const kOpcodes = new Map([
  [0x981, "LDG"],
  [0x986, "STG"],
  [0xfae, "LDGSTS"],
  [0x984, "LDS"],
  [0x388, "STS"],
  [0x988, "STS"], // with a uniform register, from sm_90 on; so too STL
  [0x83b, "LDSM"],
  [0x23c, "HMMA"],
  [0x308, "MUFU"],
  [0xb1d, "BAR"],
  [0x983, "LDL"],
  [0x387, "STL"],
  [0x987, "STL"],
  [0x38c, "ATOMS"],
  [0x98c, "ATOMS"],
  [0x9a3, "ATOMG"],
  [0x98e, "RED"],
  [0x589, "SHFL"],
  [0x989, "SHFL"],
  [0xf89, "SHFL"],
]);
/** Float arithmetic comes with registers, constants and immediates: named by its low 9 bits. */
const kArithmetic = new Map([
  [0x020, "FMUL"],
  [0x021, "FADD"],
  [0x023, "FFMA"],
]);
const kWithWidth = new Set(["LDG", "STG", "LDS", "STS"]);
/** Access width in bits, from bits 73 to 75 of a load or store. */
const kWidths = [8, 8, 16, 16, 32, 64, 128, 0];
const kBranch = 0x147; // BRA: 0x947, and 0x547 on a uniform predicate

/**
 * Name of the instruction at `at`: with the width for loads and stores, undefined for unnamed ones and for those whose
 * predicate is the constant false, which keep no unit busy (ptxas sets loads from shared memory beside LDGSTS so).
 */
export function instructionName(code, at) {
  if (code.readUInt16LE(at) >> 12 === 0xf) return undefined;
  const opcode = code.readUInt16LE(at) & 0xfff;
  const name = kOpcodes.get(opcode) ?? kArithmetic.get(opcode & 0x1ff);
  if (name === undefined || !kWithWidth.has(name)) return name;
  return `${name}.${kWidths[(code[at + 9] >> 1) & 7]}`;
}

/**
 * Where the branch at `at` leads, or undefined when it is none. The offset from the next instruction is in
 * units of 4 bytes, in bits 34 to 81; from sm_90 on these are its upper bits, above bits 16 to 23.
 */
export function branchTarget(code, at, architecture) {
  if ((code.readUInt16LE(at) & 0x1ff) !== kBranch) return undefined;
  const low = code.readBigUInt64LE(at);
  const high = code.readBigUInt64LE(at + 8);
  const upper = BigInt.asIntN(48, (low >> 34n) | ((high & 0x3ffffn) << 30n));
  const isSplit = Number(/\d+/.exec(architecture)[0]) >= 90;
  const offset = isSplit ? upper * 256n + ((low >> 16n) & 0xffn) : upper;
  return at + kInstructionBytes + Number(offset) * 4;
}

const kEnds = new Set([0x14d, 0x150, 0x149]); // EXIT, RET, BRX: nothing follows that is known

/** Whether the predicate is the constant true, and so what a branch depends on besides (bits 87 to 91). */
const isAlways = (code, at) =>
  ((code.readUInt16LE(at) >> 12) & 0xf) === 7 && ((code.readUInt32LE(at + 8) >>> 23) & 0x1f) === 7;

/**
 * Straight pieces of code in order: {first, last, next}: addresses of their first and last instruction, and of the
 * pieces that may come next. A uniform predicate of a branch is taken to vary.
 */
export function blocksOf(code, architecture) {
  const starts = new Set([0]);
  for (let at = 0; at < code.length; at += kInstructionBytes) {
    const target = branchTarget(code, at, architecture);
    const ends = kEnds.has(code.readUInt16LE(at) & 0x1ff);
    if (target !== undefined) starts.add(target);
    if (target !== undefined || ends) starts.add(at + kInstructionBytes);
  }
  const sorted = [...starts].filter((at) => at >= 0 && at < code.length).sort((a, b) => a - b);
  return sorted.map((first, index) => {
    const end = sorted[index + 1] ?? code.length;
    const last = end - kInstructionBytes;
    const target = branchTarget(code, last, architecture);
    const opcode = code.readUInt16LE(last) & 0xfff;
    const isJump = target !== undefined && opcode === 0x947;
    const isFinal = isAlways(code, last) && (isJump || kEnds.has(opcode & 0x1ff));
    const next = target === undefined ? [] : [target];
    if (!isFinal && end < code.length) next.push(end);
    return { first, last, next };
  });
}

/**
 * Loops of a kernel, outermost first: [first, last] addresses of instructions, and the addresses of the
 * branches back. The endless branch to itself behind the last EXIT is none.
 */
export function loopsOf(code, architecture) {
  const byStart = new Map();
  for (let at = 0; at < code.length; at += kInstructionBytes) {
    const target = branchTarget(code, at, architecture);
    if (target === undefined || target >= at) continue;
    const loop = byStart.get(target) ?? { first: target, last: at, branches: [] };
    loop.last = Math.max(loop.last, at);
    loop.branches.push(at);
    byStart.set(target, loop);
  }
  return [...byStart.values()].sort((a, b) => a.first - b.first || b.last - a.last);
}

/** Adds one to a count. */
const add = (counts, name, times = 1) => {
  counts[name] = (counts[name] ?? 0) + times;
};

/** Counts of instructions: every one, those that are named, and memory accesses by width. */
export function histogramOf(code, isCounted = () => true) {
  const counts = { instructions: 0 };
  for (let at = 0; at < code.length; at += kInstructionBytes) {
    if (!isCounted(at)) continue;
    add(counts, "instructions");
    const name = instructionName(code, at);
    if (name !== undefined) add(counts, name);
  }
  return counts;
}
