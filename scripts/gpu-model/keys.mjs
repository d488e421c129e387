// What the models of several ops share: how rows are read and runs found.
const kRotate = "cuda/rope/rotate.cuh";

/** Rows that do not turn. */
export const neverTurned = [
  { file: kRotate, within: "turn_half8" },
  { file: "core/canonical.h", within: "rotate_pair" },
  { file: kRotate, within: "rotated_eight", from: "if (style ==", to: "rotated_one(row" },
  { file: kRotate, within: "rotated_one", from: "const int half", to: "return is_first" },
];
export const neverUnaligned = [
  {
    file: kRotate,
    within: "load8_anywhere",
    from: "for (int i = 0; i < 8",
    to: "to_float(source[i])",
  },
];
/** Which of the heads' spans a block has: 32 of them at a time. */
export const findOwner = {
  file: "cuda/attend/block.cuh",
  within: "find_owner",
  text: "while (width > 1)",
  trips: ({ heads }) => Math.ceil(Math.log2(heads) / 5),
};
/** A head of one run: nothing to search. */
export const findRun = {
  file: "cuda/attend/slots.cuh",
  within: "find_run",
  text: "while (high - low > 1)",
  trips: () => 0,
};
