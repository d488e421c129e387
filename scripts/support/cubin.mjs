// Reading a cubin without a disassembler: sections, symbols, what a kernel uses, and its source lines.
// The encoding of instructions is in sass.mjs.

/** Sections of a little-endian ELF64 file by index: name, data, length. */
export function sectionsOf(bytes) {
  if (bytes.readUInt32BE(0) !== 0x7f454c46) throw new Error("not an ELF file");
  const headers = Number(bytes.readBigUInt64LE(40));
  const [size, count, namesIndex] = [58, 60, 62].map((at) => bytes.readUInt16LE(at));
  const header = (index) => {
    const at = headers + index * size;
    const offset = Number(bytes.readBigUInt64LE(at + 24));
    const length = Number(bytes.readBigUInt64LE(at + 32));
    const isEmpty = bytes.readUInt32LE(at + 4) === 8; // SHT_NOBITS
    return {
      nameAt: bytes.readUInt32LE(at),
      data: isEmpty ? Buffer.alloc(0) : bytes.subarray(offset, offset + length),
      length,
    };
  };
  const names = header(namesIndex).data;
  return Array.from({ length: count }, (_, index) => {
    const section = header(index);
    const end = names.indexOf(0, section.nameAt);
    return { ...section, name: names.toString("latin1", section.nameAt, end) };
  });
}

const sectionNamed = (sections, name) => sections.find((section) => section.name === name);

/** Symbols in table order: name and the index of the section they lie in. */
export function symbolsOf(sections) {
  const table = sectionNamed(sections, ".symtab").data;
  const names = sectionNamed(sections, ".strtab").data;
  return Array.from({ length: table.length / 24 }, (_, index) => {
    const start = table.readUInt32LE(index * 24);
    return {
      name: names.toString("latin1", start, names.indexOf(0, start)),
      section: table.readUInt16LE(index * 24 + 6),
    };
  });
}

/** Attribute numbers of .nv.info entries whose payload is (symbol, value). */
const kFrameSize = 0x11;
const kMinStackSize = 0x12;
const kRegisterCount = 0x2f;

/** Registers and stack bytes by symbol index. */
export function resourcesOf(sections) {
  const info = sectionNamed(sections, ".nv.info")?.data ?? Buffer.alloc(0);
  const resources = new Map();
  for (let at = 0; at + 4 <= info.length; ) {
    const [format, attribute, size] = [info[at], info[at + 1], info.readUInt16LE(at + 2)];
    at += 4;
    if (format !== 4) continue; // the value is in the header itself
    if ([kFrameSize, kMinStackSize, kRegisterCount].includes(attribute)) {
      const symbol = info.readUInt32LE(at);
      const value = info.readUInt32LE(at + 4);
      const entry = resources.get(symbol) ?? { registers: 0, stackBytes: 0 };
      if (attribute === kRegisterCount) entry.registers = value;
      else entry.stackBytes = Math.max(entry.stackBytes, value);
      resources.set(symbol, entry);
    }
    at += size;
  }
  return resources;
}

// --- source lines (needs -lineinfo) -------------------------------------------------------------

/** Reads numbers of a DWARF section one after the other. */
class DwarfReader {
  constructor(data, at) {
    this.data = data;
    this.at = at;
  }
  byte() {
    return this.data[this.at++];
  }
  signedByte() {
    return this.data.readInt8(this.at++);
  }
  half() {
    this.at += 2;
    return this.data.readUInt16LE(this.at - 2);
  }
  word() {
    this.at += 4;
    return this.data.readUInt32LE(this.at - 4);
  }
  unsigned() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const part = this.byte();
      value += (part & 0x7f) * 2 ** shift;
      if (part < 0x80) return value;
    }
  }
  signed() {
    const start = this.at;
    const value = this.unsigned();
    const bits = 7 * (this.at - start);
    return value >= 2 ** (bits - 1) ? value - 2 ** bits : value;
  }
  text() {
    const end = this.data.indexOf(0, this.at);
    const value = this.data.toString("utf8", this.at, end);
    this.at = end + 1;
    return value;
  }
}

/** Symbol of each place in .debug_line that holds an address, by offset in the section. */
function addressSymbols(sections) {
  const symbols = new Map();
  // Relocations without addends before sm_90.
  for (const [name, size] of [
    [".rela.debug_line", 24],
    [".rel.debug_line", 16],
  ]) {
    const data = sectionNamed(sections, name)?.data ?? Buffer.alloc(0);
    for (let at = 0; at < data.length; at += size) {
      symbols.set(Number(data.readBigUInt64LE(at)), data.readUInt32LE(at + 12));
    }
  }
  return symbols;
}

/** Header of a line program (DWARF 2): its file names and the numbers its opcodes are made of. */
function lineHeader(reader) {
  const end = reader.word() + reader.at;
  reader.half(); // version
  const programAt = reader.word() + reader.at;
  const step = reader.byte();
  reader.byte(); // default_is_stmt
  const [lineBase, lineRange, opcodeBase] = [reader.signedByte(), reader.byte(), reader.byte()];
  const operands = Array.from({ length: opcodeBase - 1 }, () => reader.byte());
  const folders = [""];
  for (let folder = reader.text(); folder !== ""; folder = reader.text()) folders.push(folder);
  const files = [undefined];
  for (let file = reader.text(); file !== ""; file = reader.text()) {
    const folder = folders[reader.unsigned()];
    reader.unsigned();
    reader.unsigned();
    files.push(folder === "" || file.startsWith("/") ? file : `${folder}/${file}`);
  }
  reader.at = programAt;
  return { end, step, lineBase, lineRange, opcodeBase, operands, files };
}

/**
 * For each section index the places where the source line changes: {address, file, line}, ascending. A line
 * of an inlined function is that function's own.
 */
export function linesOf(sections) {
  const data = sectionNamed(sections, ".debug_line")?.data ?? Buffer.alloc(0);
  const symbols = symbolsOf(sections);
  const addresses = addressSymbols(sections);
  const lines = new Map();
  const reader = new DwarfReader(data, 0);
  while (reader.at < data.length) {
    const { end, step, lineBase, lineRange, opcodeBase, operands, files } = lineHeader(reader);
    let state = { section: 0, address: 0, file: 1, line: 1 };
    const emit = () => {
      const { section, address, file, line } = state;
      if (!lines.has(section)) lines.set(section, []);
      lines.get(section).push({ address, file: files[file], line });
    };
    while (reader.at < end) {
      const opcode = reader.byte();
      if (opcode >= opcodeBase) {
        state.address += Math.floor((opcode - opcodeBase) / lineRange) * step;
        state.line += lineBase + ((opcode - opcodeBase) % lineRange);
        emit();
      } else if (opcode === 0) {
        const next = reader.unsigned() + reader.at;
        const extended = reader.byte();
        if (extended === 1) state = { section: 0, address: 0, file: 1, line: 1 };
        if (extended === 2) {
          state.section = symbols[addresses.get(reader.at)]?.section ?? 0;
          state.address = Number(data.readBigUInt64LE(reader.at));
        }
        reader.at = next;
      } else if (opcode === 1) emit();
      else if (opcode === 2) state.address += reader.unsigned() * step;
      else if (opcode === 3) state.line += reader.signed();
      else if (opcode === 4) state.file = reader.unsigned();
      else if (opcode === 8) state.address += Math.floor((255 - opcodeBase) / lineRange) * step;
      else if (opcode === 9) state.address += reader.half();
      else for (let i = 0; i < operands[opcode - 1]; i++) reader.unsigned();
    }
    reader.at = end;
  }
  for (const list of lines.values()) list.sort((a, b) => a.address - b.address);
  return lines;
}
