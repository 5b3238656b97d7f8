"""Compiles one CUDA C source to PTX with NVRTC.

Usage: nvrtc.py LIBNVRTC SOURCE ARCHITECTURE OUTPUT
Includes are looked up beside the source. Exit status 1 and the compiler's log on stderr when it refuses.
"""

import ctypes
import os
import sys


def main(library, source, architecture, output):
    nvrtc = ctypes.CDLL(library)
    program = ctypes.c_void_p()
    with open(source, "rb") as file:
        text = file.read()
    name = os.path.basename(source).encode()
    folder = os.path.dirname(source)

    def check(status, what):
        if status != 0:
            nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
            sys.exit(f"{what}: {nvrtc.nvrtcGetErrorString(status).decode()}")

    def fetch(size_of, read):
        size = ctypes.c_size_t()
        check(size_of(program, ctypes.byref(size)), "size")
        buffer = ctypes.create_string_buffer(size.value)
        check(read(program, buffer), "read")
        return buffer.value.decode()

    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None), "create program")
    options = [f"--gpu-architecture={architecture}", "--std=c++17", f"--include-path={folder}", "--restrict"]
    encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    status = nvrtc.nvrtcCompileProgram(program, len(options), encoded)
    log = fetch(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).strip()
    if log:
        print(log, file=sys.stderr)
    check(status, f"compile {source}")
    with open(output, "w", encoding="utf-8") as file:
        file.write(fetch(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX))


main(*sys.argv[1:])
