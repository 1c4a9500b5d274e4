#!/usr/bin/python3
"""Runs the user-mode kernel given as arguments, on processors with tile registers (AMX) too.

The 6.1 kernel saves a process's vector registers in 2696 bytes. On a processor with AMX the host insists on 11 KiB when
they are put back, and the guest dies at its first instruction. Asked at start whether the host can hand out that extended
state at all, the guest falls back to the old 512 bytes (SSE) if the answer is no; a system call filter gives that answer.
What this costs: the upper halves of AVX registers are not kept when the guest switches between threads of one process, so
the guest's C library is told not to use them (`guest_init.sh`). Without AMX nothing is changed.
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SYS_PTRACE, PTRACE_GETREGSET, PTRACE_SETREGSET, NT_X86_XSTATE, EINVAL = 101, 0x4204, 0x4205, 0x202, 22
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER, FIRST_ARGUMENT, THIRD_ARGUMENT = 0, 16, 32  # offsets in struct seccomp_data, low words

FILTER = [
    (LOAD, 0, 0, NUMBER),
    (JUMP_IF_EQUAL, 0, 6, SYS_PTRACE),
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (JUMP_IF_EQUAL, 1, 0, PTRACE_GETREGSET),
    (JUMP_IF_EQUAL, 0, 3, PTRACE_SETREGSET),
    (LOAD, 0, 0, THIRD_ARGUMENT),
    (JUMP_IF_EQUAL, 0, 1, NT_X86_XSTATE),
    (RETURN, 0, 0, ERRNO | EINVAL),
    (RETURN, 0, 0, ALLOW),
]


def has_amx():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpus:
        return any(line.startswith("flags") and " amx_tile" in line for line in cpus)


def hide_extended_state():
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in FILTER)
    program = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(FILTER), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)):
        if libc.prctl(*call) != 0:
            sys.exit(f"launch_kernel: prctl({call[0]}): {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    if has_amx():
        hide_extended_state()
    os.execv(sys.argv[1], sys.argv[1:])
