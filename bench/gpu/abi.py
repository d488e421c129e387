"""The C interface (core/include/spindlekv.h) as ctypes classes, read from the headers at run time.

There is one definition of every struct, the header's: what is here is made from it by a parser of the
small part of C that the headers use. layout_check() has the C compiler confirm sizes and offsets.
"""

import ctypes
import re
import subprocess
import tempfile
from pathlib import Path

SCALARS = {
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "uint16_t": ctypes.c_uint16,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "char": ctypes.c_char,
}
HEADERS = ("types.h", "ops.h", "backend.h")


def _split_source(text):
    """The text without comments, and its preprocessor lines (continuations joined) on their own."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", " ", text)
    text = text.replace("\\\n", " ")
    lines = text.split("\n")
    directives = [line for line in lines if line.lstrip().startswith("#")]
    return "\n".join(line for line in lines if not line.lstrip().startswith("#")), directives


class Abi:
    """Constants, structs by name (abi.SkvRun) and the ops in order, of the headers in `folder`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.constants = {}
        self.structs = {}
        self.ops = {}
        code = ""
        for name in HEADERS:
            body, directives = _split_source((self.folder / name).read_text())
            code += body + "\n"
            for line in directives:
                self._read_directive(line)
        for number, name in enumerate(self.ops):
            self.constants[f"SKV_OP_{name}"] = number
        for body in re.findall(r"typedef enum \w+ \{(.*?)\} \w+;", code, flags=re.S):
            self._read_enum(body)
        pattern = r"typedef struct (?:SKV_NODISCARD )?(\w+) \{(.*?)\} \1;"
        for name, body in re.findall(pattern, code, flags=re.S):
            self._read_struct(name, body)

    def __getattr__(self, name):
        if name in self.__dict__.get("structs", {}):
            return self.structs[name]
        if name in self.__dict__.get("constants", {}):
            return self.constants[name]
        raise AttributeError(f"the headers define no {name}")

    def _read_directive(self, line):
        ops = re.match(r"\s*#\s*define SKV_OPS\(X\)(.*)", line)
        if ops:
            self.ops = dict(re.findall(r"X\((\w+), (\w+)\)", ops.group(1)))
        number = re.match(r"\s*#\s*define (SKV_\w+) (\d+)u?\s*$", line)
        if number:
            self.constants[number.group(1)] = int(number.group(2))

    def _read_enum(self, body):
        if "SKV_OP_ENUM" in body:
            return
        value = 0
        for entry in filter(None, (part.strip() for part in body.split(","))):
            name, _, given = (part.strip() for part in entry.partition("="))
            value = int(given, 0) if given else value
            self.constants[name] = value
            value += 1

    def _type_of(self, words, is_pointer):
        if is_pointer:
            return ctypes.c_void_p
        name = words[-1]
        if name in SCALARS:
            return SCALARS[name]
        return self.structs[name]

    def _function_type(self, result, arguments):
        result = result.strip()
        returned = None if result == "void" else self._type_of([result], False)
        types = []
        for argument in filter(None, (part.strip() for part in arguments.split(","))):
            words = re.sub(r"[*]", " ", argument).replace("const", " ").split()
            types.append(self._type_of(words[:1], "*" in argument))
        return ctypes.CFUNCTYPE(returned, *types)

    def _read_struct(self, name, body):
        fields = []
        # The one macro of a struct body: a member for each op.
        member = "SkvStatus (*{})(SkvDevice* d, const SkvExec* e, const Skv{}Params* p);"
        members = "".join(member.format(*op) for op in self.ops.items())
        body = body.replace("SKV_OPS(SKV_OP_MEMBER)", members)
        for declaration in filter(None, (" ".join(part.split()) for part in body.split(";"))):
            function = re.fullmatch(r"(\w+) \(\*(\w+)\)\((.*)\)", declaration)
            if function:
                result, field, arguments = function.groups()
                fields.append((field, self._function_type(result, arguments)))
                continue
            match = re.fullmatch(r"((?:const |volatile )*)(\w+)(\*?) (.*)", declaration)
            if not match:
                raise ValueError(f"{name}: cannot read the declaration `{declaration}`")
            _, kind, star, declarators = match.groups()
            for declarator in declarators.split(","):
                field, extent = re.fullmatch(r"\s*(\w+)(?:\[(\d+)\])?\s*", declarator).groups()
                base = self._type_of([kind], bool(star))
                fields.append((field, base * int(extent) if extent else base))
        self.structs[name] = type(name, (ctypes.Structure,), {"_fields_": fields})

    def params_of(self, op):
        """The parameter struct of an op."""
        return self.structs[f"Skv{self.ops[op]}Params"]

    def layout_check(self, compiler):
        """Sizes and offsets as the C++ compiler sees them; a list of differences."""
        lines, expected = [], []
        for name, struct in self.structs.items():
            lines.append(f'std::printf("%zu\\n", sizeof({name}));')
            expected.append((name, ctypes.sizeof(struct)))
            for field, _ in struct._fields_:
                lines.append(f'std::printf("%zu\\n", offsetof({name}, {field}));')
                expected.append((f"{name}.{field}", getattr(struct, field).offset))
        source = (
            f'#include <cstddef>\n#include <cstdio>\n#include "{self.folder}/include/spindlekv.h"\n'
            f"int main() {{ {' '.join(lines)} }}\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "layout"
            subprocess.run(
                [compiler, "-std=c++20", "-x", "c++", "-", "-o", str(program)],
                input=source,
                text=True,
                check=True,
            )
            printed = subprocess.run([str(program)], capture_output=True, text=True, check=True)
        found = [int(line) for line in printed.stdout.split()]
        return [
            f"{name}: {got} in C++, {wanted} here"
            for (name, wanted), got in zip(expected, found, strict=True)
            if wanted != got
        ]
