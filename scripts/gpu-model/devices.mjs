// What a device can do, for the model. Bandwidth is that of a copy, not of the data sheet.

/** What an SM holds at once (CUDA programming guide, compute capabilities). */
export const architectures = {
  sm_80: { warps: 64, blocks: 32, registers: 65536, sharedBytes: 164 * 1024 },
  sm_86: { warps: 48, blocks: 16, registers: 65536, sharedBytes: 100 * 1024 },
  sm_89: { warps: 48, blocks: 24, registers: 65536, sharedBytes: 100 * 1024 },
  sm_90a: { warps: 64, blocks: 32, registers: 65536, sharedBytes: 228 * 1024 },
  sm_100: { warps: 64, blocks: 32, registers: 65536, sharedBytes: 228 * 1024 },
  sm_120: { warps: 48, blocks: 24, registers: 65536, sharedBytes: 100 * 1024 },
};

/** `tensorFlops`: of the floors: dense f16 with f32 sums, as sustained by large products. */
export const devices = {
  h100: {
    name: "H100 SXM",
    architecture: "sm_90a",
    sms: 132,
    clockGHz: 1.7,
    copyBytesPerSecond: 3.0e12,
    l2BytesPerSecond: 5.5e12,
    tensorFlops: 798e12,
  },
  h200: {
    name: "H200",
    architecture: "sm_90a",
    sms: 132,
    clockGHz: 1.7,
    copyBytesPerSecond: 4.3e12,
    l2BytesPerSecond: 5.5e12,
    tensorFlops: 798e12,
  },
};

/**
 * Cycles of one SM that a warp's instruction keeps a unit busy for. FFMA and its kin: 128 lanes. MUFU: 16
 * lanes. Shared memory: 128 bytes a cycle. HMMA m16n8k16: 2048 of 2048 products a cycle, at the 62 % that
 * mma.sync reaches of what wgmma does on sm_90.
 */
export const units = {
  "issue slots": { instructions: 1 / 4 },
  "float units": { FFMA: 1 / 4, FMUL: 1 / 4, FADD: 1 / 4 },
  MUFU: { MUFU: 2 },
  "shared memory": {
    "LDS.128": 4,
    "LDS.64": 2,
    "LDS.32": 1,
    "LDS.16": 1,
    "LDS.8": 1,
    "STS.128": 4,
    "STS.64": 2,
    "STS.32": 1,
    "STS.16": 1,
    "STS.8": 1,
    LDSM: 4,
    LDGSTS: 4,
    SHFL: 1,
    ATOMS: 2,
  },
  "tensor cores": { HMMA: 1 / 0.62 },
};

/** Seconds for a launch behind another: the gap, the ramp up and the tail. */
export const kLaunchSeconds = 2.5e-6;
/** Seconds for a small copy of tables to the device on the stream. */
export const kCopySeconds = 2.0e-6;
/** Seconds from a load's issue to its data under load. */
export const kMemoryLatencySeconds = 0.8e-6;
/** Seconds of a load from L2 that the next one waits for. */
export const kDependentLoadSeconds = 0.3e-6;
