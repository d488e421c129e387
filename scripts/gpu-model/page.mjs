// docs/gpu-model.md out of the predictions.

const table = (head, lines) =>
  [head, head.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
const short = (value) =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
const time = (seconds) =>
  seconds >= 1e-3 ? `${short(seconds * 1e3)} ms` : `${short(seconds * 1e6)} us`;

const introduction = (device) => `<!-- Written by \`node scripts/gpu-model.mjs\`; not by hand. -->
# What the GPU rows should take

**Not yet measured.** No GPU was at hand: every number on this page is a prediction by counting, for one ${device.name}
(${device.sms} SMs at ${device.clockGHz} GHz, ${device.copyBytesPerSecond / 1e12} TB/s copied). [gpu.md](gpu.md) says how the rows are measured.

The machine code of each kernel is read (compiled for ${device.architecture}); its loops are found by their backward branches and matched with
the source by line, and trip counts of the row's sizes, which \`scripts/gpu-model/\` holds as data, multiply them. A launch takes the
longest of: bytes over the copy bandwidth; bytes over that of L2; issue slots (4 instructions of a warp a cycle and SM); float, MUFU,
shared memory and tensor core cycles; bytes under way over latency. Short last rounds of blocks lengthen the cycles. To this come 2.5 us
a launch, 2 us a copy of tables, and 0.3 us a load that the next waits for.

How far to trust it: bytes, float and tensor core cycles are lower bounds, so a goal missed by them is missed. Issue slots are an upper bound
where code branches: all ways count unless the data says which are not taken. Left out are bank conflicts, stalls on dependent
instructions and barriers, contention of atomics, clocks under load, and anything two limits cost each other, so a goal that is
"within" may still be missed.

Window scores and assignments are canonical: products added one after the other by FFMA, so that every backend takes the same decisions.
The goals' floors are those of tensor cores, ${(device.tensorFlops / (device.sms * 256 * device.clockGHz * 1e9)).toFixed(0)} times the rate of FFMA. An assignment is screened on tensor cores,
and only rows whose best two products are nearer than the error of the screen are formed again: next to none, where codewords differ as here.
A sum of probabilities needs all of its products.`;

const noted = (problems) =>
  problems.length === 0
    ? "Every loop of these kernels is accounted for."
    : `Loops that the data does not know count once:\n\n${problems.map((text) => `- ${text}`).join("\n")}`;

/** Registers, shared memory and warps on an SM, by architecture. */
function occupancyTable(resources) {
  const names = resources[0].uses.map(({ architecture }) => architecture);
  const lines = resources.map(({ name, threads, uses }) => [
    `\`${name}\``,
    `${(uses[0].sharedBytes / 1024).toFixed(1)} KiB`,
    ...uses.map(({ registers, blocks }) => `${registers}, ${(blocks * threads) / 32}`),
  ]);
  return table(["kernel", "shared", ...names], lines);
}

/**
 * The page. `predicted`: for each row its ops and the value that the goal asks about; `resources`: what each kernel
 * uses on each architecture.
 */
export function modelPage(device, predicted, resources, problems) {
  const rowLines = predicted.map(({ row, ops, value }) => [
    row.name,
    time(ops.own.seconds),
    ops.own.limiter,
    `${short(value)} ${row.unit}`,
    row.goal.text,
    `${(100 * row.goal.of(value)).toFixed(0)} %`,
    row.goal.isMet(value) ? "within" : "missed",
  ]);
  const seen = new Set();
  const kernelLines = predicted.flatMap(({ row, ops }) =>
    ops.own.launches.flatMap((launch) => {
      const key = `${row.name} ${launch.name}`;
      if (seen.has(key)) return [];
      seen.add(key);
      const { counts, limits } = launch;
      const per = (name) => short((counts[name] ?? 0) / 1);
      const shares = Object.entries(limits)
        .filter(([, seconds]) => seconds > 0.05 * launch.seconds)
        .sort((a, b) => b[1] - a[1])
        .map(([name, seconds]) => `${name} ${time(seconds)}`);
      return [
        [
          row.name,
          `\`${launch.name}\`${launch.times > 1 ? ` x ${launch.times}` : ""}`,
          `${launch.launch.blocks} x ${launch.launch.threads}`,
          `${launch.resident}`,
          per("instructions"),
          per("FFMA"),
          per("HMMA"),
          per("MUFU"),
          short((counts["LDS.128"] ?? 0) + (counts.LDSM ?? 0)),
          short((counts.LDGSTS ?? 0) + (counts["LDG.128"] ?? 0)),
          per("BAR"),
          shares.join(", "),
        ],
      ];
    }),
  );
  return `${[
    introduction(device),
    "## Rows",
    table(
      ["row", "predicted", "limiter", "value", "goal", "of the goal", "by the model"],
      rowLines,
    ),
    "## Launches",
    "Instructions of a warp, from the machine code times the trips of its loops; blocks by threads; blocks on an SM at once; what each limit takes.",
    table(
      [
        "row",
        "kernel",
        "launch",
        "on an SM",
        "instructions",
        "FFMA",
        "HMMA",
        "MUFU",
        "LDS.128, LDSM",
        "LDGSTS, LDG.128",
        "BAR",
        "limits",
      ],
      kernelLines,
    ),
    noted(problems),
    "## Occupancy",
    "Registers of a thread, and warps that an SM holds at once.",
    occupancyTable(resources),
  ].join("\n\n")}\n`;
}
